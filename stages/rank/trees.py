"""Scores the trees of a LightGBM model with bit masks (QuickScorer) instead of walking down each tree.

Input: the text of a model, and rows of features. Output: the sum of the leaves each row falls into, decided exactly as
LightGBM decides. After QuickScorer (Lucchese et al. 2015): a row's leaves of a tree are the bits of a word, every split
clears those on its other side, and the bit that is left is the row's leaf. That is some bits more than a walk needs, and
no branch: the same split is asked of many rows at once. Knows no query and no name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from numba.cpython.unsafe.numbers import trailing_zeros

from features.arrays import LARGEST
from features.domain import Floats, Ints, SegueError
from features.jit import compiled

Doubles = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]

WORD = 32
"""Leaves in a word; a tree of more is several words, of which at most one keeps a bit."""
BLOCK = 256
"""Rows scored at once: their columns fit into the cache of a core."""
ZERO = np.float32(1e-35)
"""What LightGBM takes for zero, on both sides of it."""
DEFAULT_LEFT, ZERO_IS_MISSING, NAN_IS_MISSING = 2, 4, 8
"""Bits of LightGBM's decision_type."""
LARGEST_DECISION = NAN_IS_MISSING | DEFAULT_LEFT
MOST_LEAVES = 1_024
"""Of a tree: bounds how deep it is, and so how long a score and an explanation take."""
REFUSED = {
    "a categorical split": r"^num_cat=(?!0$)",
    "a linear model in a leaf": r"^is_linear=(?!0$)",
    "several trees an iteration": r"^num_tree_per_iteration=(?!1$)",
    "an average of trees": r"^average_output$",
}
"""What such trees may have and these may not, as the model's text says it."""


@dataclass(frozen=True)
class Trees:
    """All trees, their splits one after the other. A column is a feature with one way to treat what is missing."""

    num_features: int
    num_trees: int
    features: Ints
    """(num_columns,) the feature each column is of."""
    instead: Floats
    """(num_columns,) what stands for a missing value: at every split -inf goes left, NaN right."""
    zero_is_missing: Flags
    """(num_columns,)"""
    starts: Ints
    """(num_words + 1,) word `i` has the splits `starts[i]` to `starts[i + 1]`."""
    columns: Ints
    """(num_splits,) what each split asks."""
    thresholds: Floats
    """(num_splits,) larger values go right; rounded down, so that a float32 goes where it goes as a float64."""
    left: Words
    """(num_splits,) the leaves that stay where a row goes left: all but those on the right."""
    right: Words
    values: Doubles
    """(num_words, WORD + 1) of the leaves; 0 where there is none, and in the end for a word without a bit."""

    @classmethod
    def of(cls, text: str) -> Trees:
        """`text` as LightGBM writes it; ValueError where it is not whole, or not a model that its loops come to an end in."""
        num_features, trees = _parsed(text)
        words = [word for tree in trees for word in tree.words()]
        splits = np.concatenate([np.empty(0, SPLIT), *(word.splits for word in words)])
        kinds, columns = np.unique(np.stack([splits["feature"], splits["decision"]], axis=1), axis=0, return_inverse=True)
        features, decisions = kinds[:, 0], kinds[:, 1]
        side = np.where(decisions & DEFAULT_LEFT, -np.inf, np.nan)
        return cls(
            num_features,
            len(trees),
            features.astype(np.int32),
            np.where(decisions & (ZERO_IS_MISSING | NAN_IS_MISSING), side, 0).astype(np.float32),
            (decisions & ZERO_IS_MISSING) > 0,
            np.cumsum([0, *(len(word.splits) for word in words)]).astype(np.int32),
            columns.ravel().astype(np.int32),
            _rounded_down(splits["threshold"]),
            splits["left"].copy(),
            splits["right"].copy(),
            np.stack([word.values for word in words]),
        )

    def score(self, features: Floats) -> Floats:
        """(num_rows,) of `features` (num_rows, num_features); each row's is the same whichever rows stand beside it."""
        if features.shape[1] != self.num_features:
            raise SegueError(f"ranker: expected a number of features of {self.num_features}, found {features.shape[1]}. Train again")
        scores = np.empty(len(features), np.float32)
        _score(
            np.ascontiguousarray(features, np.float32),
            self.features,
            self.instead,
            self.zero_is_missing,
            self.starts,
            self.columns,
            self.thresholds,
            self.left,
            self.right,
            self.values,
            scores,
        )
        return scores


SPLIT = np.dtype([("feature", "i4"), ("decision", "i4"), ("threshold", "f8"), ("left", "u4"), ("right", "u4")])


@dataclass(frozen=True)
class _Word:
    splits: np.ndarray
    """(num_splits,) of SPLIT."""
    values: Doubles
    """(WORD + 1,)"""


@dataclass(frozen=True)
class _Tree:
    """One tree as LightGBM writes it; a negative child is the leaf ~child."""

    features: Ints
    gains: Floats
    thresholds: Doubles
    decisions: Ints
    left: Ints
    right: Ints
    values: Doubles

    @classmethod
    def of(cls, body: str, num_features: int) -> _Tree:
        """Every split but the first and every leaf is the child of one split before it; else ValueError."""
        leaves = int(_numbers(body, "num_leaves", 1, 1, MOST_LEAVES, whole=True)[0])
        splits = leaves - 1
        for name, (count, low) in {"leaf_count": (leaves, 0), "internal_count": (splits, 0), "internal_value": (splits, -LARGEST)}.items():
            _numbers(body, name, count, low, LARGEST)  # nothing of ours reads them
        tree = cls(
            _numbers(body, "split_feature", splits, 0, num_features - 1, whole=True).astype(np.int32),
            _numbers(body, "split_gain", splits, -np.inf, np.inf).astype(np.float32),
            _numbers(body, "threshold", splits, -np.inf, np.inf),
            _numbers(body, "decision_type", splits, 0, LARGEST_DECISION, whole=True).astype(np.int32),
            _numbers(body, "left_child", splits, -leaves, splits - 1, whole=True).astype(np.int32),
            _numbers(body, "right_child", splits, -leaves, splits - 1, whole=True).astype(np.int32),
            _numbers(body, "leaf_value", leaves, -LARGEST, LARGEST),
        )
        later = all(((side > np.arange(splits)) | (side < 0)).all() for side in (tree.left, tree.right))
        children = np.sort(np.concatenate([tree.left, tree.right]))
        if not later or not np.array_equal(children, [*range(-leaves, 0), *range(1, splits)] if splits else []):
            raise ValueError(f"a tree of {leaves} leaves and {splits} splits that do not belong together")
        if (tree.decisions % 2).any():
            raise ValueError("a split by categories among splits by numbers")
        return tree

    def words(self) -> Iterator[_Word]:
        """Its leaves from left to right, a word at a time, with the splits above them."""
        start, middle, stop, order = self._spans()
        for first in range(0, len(self.values), WORD):
            here = (start < first + WORD) & (stop > first)
            splits = np.empty(int(here.sum()), SPLIT)
            splits["feature"], splits["decision"] = self.features[here], self.decisions[here]
            splits["threshold"] = self.thresholds[here]
            splits["left"] = ~_bits(middle[here] - first, stop[here] - first)
            splits["right"] = ~_bits(start[here] - first, middle[here] - first)
            values = np.zeros(WORD + 1)
            own = self.values[order[first : first + WORD]]
            values[: len(own)] = own
            yield _Word(splits, values)

    def _spans(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Per split where the leaves below it start, where those on its right do and where they stop; then the order of leaves."""
        count = len(self.left)
        leaves = np.ones(count + 1, np.int32)  # below each split; the last for a child that is a leaf
        for split in reversed(range(count)):
            leaves[split] = leaves[max(self.left[split], -1)] + leaves[max(self.right[split], -1)]
        start, order = np.zeros(count, np.int32), np.zeros(len(self.values), np.int32)
        middle = np.zeros(count, np.int32)
        for split in range(count):
            middle[split] = start[split] + leaves[max(self.left[split], -1)]
            for child, place in ((self.left[split], start[split]), (self.right[split], middle[split])):
                if child < 0:
                    order[place] = ~child
                else:
                    start[child] = place
        return start, middle, start + leaves[:count], order


lowest_bit = cast(Callable[[np.uint32], int], trailing_zeros)
"""Its place; WORD where there is none."""


def line(text: str, name: str) -> str:
    """What stands after `name=`."""
    found = re.search(rf"^{name}=(.*)$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no {name}")
    return found[1]


def split_gains(text: str) -> Doubles:
    """(num_features,) what each feature's splits gained together, as LightGBM counts it."""
    num_features, trees = _parsed(text)
    gains = np.zeros(num_features)
    for tree in trees:
        np.add.at(gains, tree.features, np.maximum(tree.gains, 0))
    return gains


def _parsed(text: str) -> tuple[int, list[_Tree]]:
    """The number of features, and the trees, at least one; ValueError where any part of them does not fit another."""
    for what, said in REFUSED.items():
        if re.search(said, text, re.MULTILINE):
            raise SegueError(f"ranker: expected trees with a number at every split and leaf, found {what}. Train again")
    head, *bodies = text.partition("\nend of trees")[0].split("\nTree=")
    sizes, found = line(head, "tree_sizes").split(), [str(len(f"Tree={body}\n".encode())) for body in bodies]
    if sizes != found or not sizes:
        raise ValueError(f"{len(found)} trees of other sizes than the {len(sizes)} that are announced")
    num_features, described = len(line(head, "feature_names").split()), len(line(head, "feature_infos").split())
    if not line(head, "max_feature_idx") == str(num_features - 1) == str(described - 1):
        raise ValueError(f"{num_features} names of features, {described} descriptions and a last one of {line(head, 'max_feature_idx')}")
    return num_features, [_Tree.of(body, num_features) for body in bodies]


def _numbers(text: str, name: str, count: int, low: float, high: float, whole: bool = False) -> Doubles:
    """(count,) what stands after `name=`; ValueError where it is another number of numbers, or one is not from `low` to `high`."""
    numbers = np.array(line(text, name).split(), np.float64)
    if len(numbers) != count:
        raise ValueError(f"{len(numbers)} numbers of {name} where there should be {count}")
    if not ((numbers >= low) & (numbers <= high)).all() or (whole and (numbers % 1).any()):
        raise ValueError(f"a {name} that is not {'a whole number ' if whole else ''}from {low:g} to {high:g}")
    return numbers


def _bits(start: Ints, stop: Ints) -> Words:
    """Words with the bits from `start` to before `stop` set, as far as a word goes."""
    below = [(np.uint64(1) << np.clip(end, 0, WORD).astype(np.uint64)) - np.uint64(1) for end in (start, stop)]
    return (below[1] & ~below[0]).astype(np.uint32)


def _rounded_down(thresholds: Doubles) -> Floats:
    """The largest float32 that is no larger."""
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


@compiled
def _score(
    rows: Floats,
    features: Ints,
    instead: Floats,
    zero_is_missing: Flags,
    starts: Ints,
    columns: Ints,
    thresholds: Floats,
    left: Words,
    right: Words,
    values: Doubles,
    scores: Floats,
) -> None:
    block = np.empty((len(features), BLOCK), np.float32)
    word = np.empty(BLOCK, np.uint32)
    total = np.empty(BLOCK, np.float64)
    for first in range(0, len(rows), BLOCK):
        count = min(BLOCK, len(rows) - first)
        for column in range(len(features)):
            for row in range(count):
                value = rows[first + row, features[column]]
                if abs(value) <= ZERO:
                    value = np.float32(0)
                if value != value or (zero_is_missing[column] and value == 0):
                    value = instead[column]
                block[column, row] = value
        total[:count] = 0
        for i in range(len(values)):
            word[:count] = 0xFFFFFFFF
            for split in range(starts[i], starts[i + 1]):
                asked, threshold, low, high = block[columns[split]], thresholds[split], left[split], right[split]
                for row in range(count):
                    word[row] &= low if asked[row] <= threshold else high
            for row in range(count):
                total[row] += values[i, lowest_bit(word[row])]
        for row in range(count):
            scores[first + row] = total[row]
