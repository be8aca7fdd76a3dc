"""The trees decide as LightGBM does, to the last bit of a float32, whatever a row holds and however large a tree is."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.domain import Floats, SegueError
from stages.rank.trees import BLOCK, WORD, Trees
from tests.contracts import QUICK

NAN, INF = float("nan"), float("inf")
COMMON = (0.0, -0.0, 1.0, NAN, INF, -INF, 1e-36, -1e-36, 1e-35, 2e-35, 3.4e38)
"""Values that a split may treat in a way of its own, or that many rows share."""


def table(seed: int, rows: int, columns: int = 4) -> Floats:
    """Half of it common values, the rest anything."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, columns)).astype(np.float32)
    common = random.random(values.shape) < 0.5
    values[common] = random.choice(np.array(COMMON, np.float32), int(common.sum()))
    return values


def booster(features: Floats, leaves: int = 31, trees: int = 8, **parameters: Any) -> lightgbm.Booster:
    """Learned by heart."""
    told = {"objective": "regression", "num_leaves": leaves, "min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0, "verbosity": -1}
    labels = np.random.default_rng(9).normal(size=len(features)) + (np.nan_to_num(features) > 0.3).sum(axis=1)
    return lightgbm.train({**told, "num_threads": 1, **parameters}, lightgbm.Dataset(features, labels), trees)


def said_by(model: lightgbm.Booster, features: Floats) -> Floats:
    return np.asarray(model.predict(features, num_threads=1), np.float32)


@QUICK
@given(
    seed=st.integers(0, 100),
    leaves=st.integers(2, 100),
    use_missing=st.booleans(),
    zero_as_missing=st.booleans(),
    rows=st.sampled_from([1, 2, 17, BLOCK - 1, BLOCK, BLOCK + 1]),
)
def test_every_score_is_that_of_lightgbm(seed: int, leaves: int, use_missing: bool, zero_as_missing: bool, rows: int) -> None:
    model = booster(table(seed, 300), leaves, use_missing=use_missing, zero_as_missing=zero_as_missing)
    asked = table(seed + 1, rows)
    np.testing.assert_array_equal(Trees.of(model.model_to_string()).score(asked), said_by(model, asked))


def test_a_value_as_large_as_a_threshold_goes_left_and_the_next_one_right() -> None:
    model = booster(table(0, 300))
    trees = Trees.of(model.model_to_string())
    near = np.concatenate([np.nextafter(trees.thresholds, np.float32(side)) for side in (-INF, INF)] + [trees.thresholds])
    asked = np.repeat(near[:, None], 4, axis=1)
    np.testing.assert_array_equal(trees.score(asked), said_by(model, asked))


@pytest.mark.parametrize("leaves", [WORD - 1, WORD, WORD + 1, 2 * WORD, 2 * WORD + 1, 250])
def test_a_tree_may_have_more_leaves_than_a_word(leaves: int) -> None:
    features = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    model = booster(features, leaves, trees=3)
    trees = Trees.of(model.model_to_string())
    assert len(trees.values) == 3 * -(-leaves // WORD)
    np.testing.assert_array_equal(trees.score(features), said_by(model, features))


def test_a_tree_that_learned_nothing_is_one_leaf() -> None:
    features = np.ones((50, 4), np.float32)
    model = booster(features)
    assert len(set(Trees.of(model.model_to_string()).score(features).tolist())) == 1
    np.testing.assert_array_equal(Trees.of(model.model_to_string()).score(features), said_by(model, features))


def test_a_row_is_scored_the_same_whatever_stands_beside_it() -> None:
    asked = table(3, BLOCK + 40)
    trees = Trees.of(booster(table(0, 300)).model_to_string())
    alone = np.concatenate([trees.score(asked[i : i + 1]) for i in range(len(asked))])
    np.testing.assert_array_equal(trees.score(asked), alone)
    np.testing.assert_array_equal(trees.score(np.asfortranarray(asked)), alone)
    assert trees.score(asked[:0]).shape == (0,)


def categorical() -> lightgbm.Booster:
    features = np.random.default_rng(0).integers(0, 9, size=(300, 4)).astype(np.float32)
    return lightgbm.train({"verbosity": -1}, lightgbm.Dataset(features, features[:, 0] % 2, categorical_feature=[0]), 2)


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (categorical, "a categorical split"),
        (lambda: booster(table(0, 300), linear_tree=True), "a linear model in a leaf"),
        (lambda: booster(table(0, 300), boosting="rf", bagging_freq=1, bagging_fraction=0.5), "an average of trees"),
    ],
)
def test_trees_of_another_kind_are_refused(made: Any, found: str) -> None:
    with pytest.raises(SegueError, match=f"expected trees with a number at every split and leaf, found {found}"):
        Trees.of(made().model_to_string())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tree_sizes=", "tree_sizes=1 "),
        ("left_child=", "left_child=7 "),
        ("\nright_child=", "\nright_child=99"),
        ("\nsplit_feature=", "\nsplit_feature=9"),
        ("\nsplit_feature=", "\nsplit_feature=1 "),
        ("\nthreshold=", "\nthresholds="),
        ("\nthreshold=", "\nthreshold=1 "),
        ("\nleaf_value=", "\nleaf_value=1 "),
        ("\nleaf_value=", "\nleaf_value=x "),
    ],
)
def test_a_damaged_text_is_refused(old: str, new: str) -> None:
    text = booster(table(0, 300)).model_to_string()
    assert old in text
    with pytest.raises(ValueError, match=r"\w"):
        Trees.of(text.replace(old, new, 1))
