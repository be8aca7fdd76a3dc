"""The trees decide as LightGBM does, to the last bit of a float32, whatever a row holds and however large a tree is."""

from __future__ import annotations

import re
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.domain import Floats, SegueError
from stages.rank.trees import BLOCK, WORD, Trees, split_gains
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


def resized(text: str) -> str:
    """With the sizes of its trees as they are now, as LightGBM announces them."""
    trees = text.partition("\nend of trees")[0].split("\nTree=")[1:]
    sizes = " ".join(str(len(f"Tree={tree}\n")) for tree in trees)
    return re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", text, count=1, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (r"^tree_sizes=", "tree_sizes=1 ", "trees of other sizes"),
        (r"^left_child=", "left_child=7 ", "numbers of left_child"),
        (r"^left_child=-?\d+ ", "left_child=0 ", "do not belong together"),
        (r"^right_child=", "right_child=99", "a right_child that is not a whole number from"),
        (r"^split_feature=", "split_feature=9", "a split_feature that is not a whole number from 0 to 3"),
        (r"^split_feature=\d", "split_feature=0.5", "a split_feature that is not a whole number"),
        (r"^split_feature=", "split_feature=1 ", "numbers of split_feature"),
        (r"^threshold=", "thresholds=", "no threshold"),
        (r"^threshold=", "threshold=1 ", "numbers of threshold"),
        (r"^threshold=\S+", "threshold=nan", "a threshold that is not from -inf to inf"),
        (r"^leaf_value=", "leaf_value=1 ", "numbers of leaf_value"),
        (r"^leaf_value=", "leaf_value=x ", "could not convert"),
        (r"^leaf_value=\S+", "leaf_value=nan", "a leaf_value that is not from"),
        (r"^leaf_value=\S+", "leaf_value=inf", "a leaf_value that is not from"),
        (r"^leaf_value=\S+", "leaf_value=1e300", "a leaf_value that is not from"),
        (r"^decision_type=\d+", "decision_type=1", "a split by categories"),
        (r"^decision_type=\d+", "decision_type=12", "a decision_type that is not a whole number from 0 to 10"),
        (r"^num_leaves=\d+", "num_leaves=0", "a num_leaves that is not a whole number from 1"),
        (r"^num_leaves=\d+", "num_leaves=1025", "a num_leaves that is not a whole number from 1 to 1024"),
        (r"^internal_count=\S+", "internal_count=", "numbers of internal_count"),
        (r"^feature_infos=\S+ ", "feature_infos=", "3 descriptions"),
        (r"^max_feature_idx=3", "max_feature_idx=2147483647", "a last one of 2147483647"),
    ],
)
def test_a_damaged_text_is_refused(old: str, new: str, found: str) -> None:
    text = booster(table(0, 300)).model_to_string()
    changed = re.sub(old, new, text, count=1, flags=re.MULTILINE)
    assert changed != text
    with pytest.raises(ValueError, match=found):
        Trees.of(changed if old == "^tree_sizes=" else resized(changed))


def test_a_text_without_a_tree_is_refused() -> None:
    text = booster(table(0, 300)).model_to_string()
    none = text[: text.index("\nTree=")] + text[text.index("\nend of trees") :]
    with pytest.raises(ValueError, match="0 trees"):
        Trees.of(resized(none))


def test_a_chain_of_splits_is_refused_soon() -> None:
    """100,000 splits, each on the left of the one before."""
    count = 100_000
    fields = {
        "num_leaves": count + 1, "num_cat": 0, "split_feature": "0 " * count, "split_gain": "1 " * count, "threshold": "1 " * count,
        "decision_type": "2 " * count, "left_child": f"{' '.join(map(str, range(1, count)))} -1",
        "right_child": " ".join(map(str, range(-2, -count - 2, -1))), "leaf_value": "1 " * (count + 1), "leaf_count": "1 " * (count + 1),
        "internal_value": "1 " * count, "internal_count": "1 " * count,
    }  # fmt: skip
    tree = "\n".join(f"{name}={value}" for name, value in fields.items())
    head = "tree\nmax_feature_idx=0\nfeature_names=a\nfeature_infos=none\ntree_sizes=\n"
    with pytest.raises(ValueError, match="num_leaves that is not a whole number from 1 to 1024"):
        Trees.of(resized(f"{head}\nTree=0\n{tree}\n\n\nend of trees\n"))


def test_gains_are_those_that_lightgbm_counts() -> None:
    model = booster(table(0, 300))
    text = model.model_to_string()
    np.testing.assert_array_equal(split_gains(text), lightgbm.Booster(model_str=text).feature_importance("gain"))
