"""What each feature adds to a score: exact Shapley values of trees, for many rows at once.

Input: trees, and rows of features. Output: per row and feature its share of what the row's score is above the mean (path-dependent
TreeSHAP, Lundberg et al. 2018, as LightGBM has it). A leaf is a game of the features above it: one that is known counts 1 where
the row goes towards the leaf, else 0; one that is not known counts the share of the examples that do. The leaf's value times all
of them is a product, and what a feature adds to it, over all orders in which they become known, is an integral of a polynomial
(Owen 1972): exact at half as many points of Gauss and Legendre as there are features. The steps are the same for every row, so
that many are taken at once. Knows no query and no name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.domain import Floats, Ints
from features.jit import compiled
from stages.rank.trees import WORD, Doubles, Flags, Trees, Words

BLOCK = 128
"""Rows explained at once: what they obey stays in a core's own cache."""


@dataclass(frozen=True)
class TreeShap:
    """The trees, the splits of a word in groups of one feature. A leaf below a split of a group has the group's feature to play."""

    trees: Trees
    columns: Ints
    """(num_splits,) as in the trees, in the order of the groups; so are the next three."""
    thresholds: Floats
    left: Words
    right: Words
    splits: Ints
    """(num_groups + 1,) group `i` has the splits `splits[i]` to `splits[i + 1]`."""
    groups: Ints
    """(num_words + 1,) word `i` has the groups `groups[i]` to `groups[i + 1]`."""
    features: Ints
    """(num_groups,)"""
    plays: Flags
    """(num_groups, WORD) whether the leaf is below a split of the group."""
    shares: Floats
    """(num_groups, WORD) of the examples that came to the group's splits above each leaf, those that went on towards the leaf."""
    points: Floats
    """(m, m) row i: i + 1 points between 0 and 1 at which a polynomial of degree 2i + 1 is summed up exactly."""
    weights: Floats
    """(m, m)"""

    @classmethod
    def of(cls, trees: Trees) -> TreeShap:
        word_of, feature_of = np.repeat(np.arange(len(trees.values)), np.diff(trees.starts)), trees.features[trees.columns]
        order = np.lexsort((feature_of, word_of))
        words, features = word_of[order], feature_of[order]
        first = np.flatnonzero((np.diff(words, prepend=-1) != 0) | (np.diff(features, prepend=-1) != 0))  # split of each group
        on_left, on_right = _leaves(~trees.right[order]), _leaves(~trees.left[order])
        shares = np.where(on_left, trees.shares[order, :1], 1) * np.where(on_right, trees.shares[order, 1:], 1)
        plays = np.logical_or.reduceat(on_left | on_right, first)
        players = np.zeros((len(trees.values), WORD), np.int64)
        np.add.at(players, words[first], plays)
        points, weights = _quadrature(-(-int(players.max(initial=1)) // 2))
        return cls(
            trees,
            trees.columns[order],
            trees.thresholds[order],
            trees.left[order],
            trees.right[order],
            np.append(first, len(order)).astype(np.int32),
            np.searchsorted(words[first], np.arange(len(trees.values) + 1)).astype(np.int32),
            features[first],
            plays,
            np.multiply.reduceat(shares, first).astype(np.float32),
            points,
            weights,
        )

    def contributions(self, features: Floats) -> Floats:
        """(num_rows, num_features) of `features` (num_rows, num_features); each row's is the same whichever rows stand beside it."""
        effects = np.zeros((self.trees.num_features, len(features)), np.float32)
        for first in range(0, len(features), BLOCK):
            asked, block = self.trees.asked(features[first : first + BLOCK]), np.zeros((len(effects), BLOCK), np.float32)
            _explain(
                asked,
                self.columns,
                self.thresholds,
                self.left,
                self.right,
                self.splits,
                self.groups,
                self.features,
                self.plays,
                self.shares,
                self.trees.values,
                self.points,
                self.weights,
                block,
            )
            effects[:, first : first + BLOCK] = block[:, : asked.shape[1]]
        return np.ascontiguousarray(effects.T)


def _leaves(words: Words) -> Flags:
    """(n, WORD) the bits of `words` (n,)."""
    return (words[:, None] >> np.arange(WORD, dtype=np.uint32)) & 1 > 0


def _quadrature(most: int) -> tuple[Floats, Floats]:
    """Gauss and Legendre's points and weights between 0 and 1: row i has those of i + 1 points, up to `most`."""
    points, weights = np.zeros((2, most, most), np.float32)
    for i in range(most):
        x, w = np.polynomial.legendre.leggauss(i + 1)
        points[i, : i + 1], weights[i, : i + 1] = (x + 1) / 2, w / 2
    return points, weights


@compiled
def _explain(
    asked: Floats,
    columns: Ints,
    thresholds: Floats,
    left: Words,
    right: Words,
    splits: Ints,
    groups: Ints,
    features: Ints,
    plays: Flags,
    shares: Floats,
    values: Doubles,
    points: Floats,
    weights: Floats,
    effects: Floats,
) -> None:
    """Adds to `effects` (num_features, at least num_rows) what each feature adds to the scores of the rows of `asked`."""
    count, most = asked.shape[1], np.diff(groups).max()
    allowed = np.empty((most, count), np.uint32)  # leaves that the splits of a group leave to a row
    obeys = np.empty((most, count), np.float32)  # 1 where a row goes towards the leaf at each of a player's splits, else 0
    players = np.empty(most, np.int64)
    product = np.empty(count, np.float32)
    for i in range(len(values)):
        for group in range(groups[i], groups[i + 1]):
            word = allowed[group - groups[i]]
            word[:] = 0xFFFFFFFF
            for split in range(splits[group], splits[group + 1]):
                value, threshold, low, high = asked[columns[split]], thresholds[split], left[split], right[split]
                for row in range(count):
                    word[row] &= low if value[row] <= threshold else high
        for leaf in range(WORD):
            playing = 0
            for group in range(groups[i], groups[i + 1]):
                if plays[group, leaf]:
                    word, obeyed = allowed[group - groups[i]], obeys[playing]
                    for row in range(count):
                        obeyed[row] = (word[row] >> np.uint32(leaf)) & np.uint32(1)
                    players[playing] = group
                    playing += 1
            num_points = (playing + 1) // 2
            for j in range(num_points):
                point = points[num_points - 1, j]
                product[:] = weights[num_points - 1, j] * values[i, leaf]
                for player in range(playing):
                    unknown, obeyed = shares[players[player], leaf] * (1 - point), obeys[player]
                    for row in range(count):
                        product[row] *= unknown + point * obeyed[row]
                for player in range(playing):
                    share, obeyed, effect = shares[players[player], leaf], obeys[player], effects[features[players[player]]]
                    without = -1 / (1 - point)
                    more = (1 - share) / (point + share * (1 - point)) - without
                    for row in range(count):
                        effect[row] += product[row] * (without + more * obeyed[row])
