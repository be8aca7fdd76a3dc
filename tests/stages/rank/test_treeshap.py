"""What a feature adds is what LightGBM says it adds, whatever a row holds and however large a tree is."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.domain import Floats
from stages.rank.trees import Trees
from stages.rank.treeshap import BLOCK, TreeShap
from tests.contracts import QUICK
from tests.stages.rank.test_trees import booster, table


def explainer(model: lightgbm.Booster) -> TreeShap:
    return TreeShap.of(Trees.of(model.model_to_string()))


def require_those_of_lightgbm(model: lightgbm.Booster, asked: Floats) -> None:
    said = model.predict(asked, pred_contrib=True, num_threads=1)[:, :-1]
    np.testing.assert_allclose(explainer(model).contributions(asked), said, rtol=2e-5, atol=2e-6 * np.abs(said).max(initial=1e-9))


@QUICK
@given(
    seed=st.integers(0, 100),
    leaves=st.integers(2, 100),
    columns=st.sampled_from([1, 2, 4, 20]),
    use_missing=st.booleans(),
    zero_as_missing=st.booleans(),
    rows=st.sampled_from([1, 2, 17, BLOCK - 1, BLOCK, BLOCK + 1]),
)
def test_every_contribution_is_that_of_lightgbm(
    seed: int, leaves: int, columns: int, use_missing: bool, zero_as_missing: bool, rows: int
) -> None:
    model = booster(table(seed, 300, columns), leaves, use_missing=use_missing, zero_as_missing=zero_as_missing)
    require_those_of_lightgbm(model, table(seed + 1, rows, columns))


@pytest.mark.parametrize("columns", [3, 40])
def test_a_tree_may_be_one_long_branch(columns: int) -> None:
    """Every split takes few examples off: the last leaf is below as many features as there are."""
    features = np.random.default_rng(0).random((900, columns)).astype(np.float32)
    labels = 2.0 ** np.argmax(np.column_stack([features > 0.97, np.ones(900)]), axis=1)
    told = {"objective": "regression", "num_leaves": 120, "min_data_in_leaf": 1, "verbosity": -1, "num_threads": 1}
    model = lightgbm.train(told, lightgbm.Dataset(features, labels), 3)
    require_those_of_lightgbm(model, features[:200])


def test_with_bagging_counts_are_of_the_examples_that_were_drawn() -> None:
    model = booster(table(0, 300), bagging_freq=1, bagging_fraction=0.5, feature_fraction=0.5)
    require_those_of_lightgbm(model, table(1, 50))


def test_trees_that_are_leaves_explain_nothing() -> None:
    features = np.ones((50, 4), np.float32)
    assert not explainer(booster(features)).contributions(features).any()


def test_a_row_is_explained_the_same_whatever_stands_beside_it() -> None:
    asked, shap = table(3, BLOCK + 40), explainer(booster(table(0, 300)))
    alone = np.concatenate([shap.contributions(asked[i : i + 1]) for i in range(len(asked))])
    np.testing.assert_array_equal(shap.contributions(asked), alone)
    np.testing.assert_array_equal(shap.contributions(np.asfortranarray(asked)), alone)
    assert shap.contributions(asked[:0]).shape == (0, 4)
