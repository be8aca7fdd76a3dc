"""The ranker's examples: candidates of masked playlists, labelled by what was hidden from every retriever.

Input: a Split, the candidates found for its queries and their pair features. Output: rows in groups of one query.
All hits are kept; of the misses a random share, since most are easy. The labels come from `Split.qrels` alone,
and a Split's qrels are by construction not in the visible data any retriever saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.domain import Candidates, Floats, Ints, Qrels


@dataclass(frozen=True)
class Examples:
    """`groups[i]` consecutive rows belong to one query."""

    features: Floats
    """(num_pairs, num_features)"""
    labels: Ints
    """(num_pairs,) 1 for a hidden track, else 0."""
    groups: Ints
    """(num_queries,) rows of each query; never 0."""
    names: tuple[str, ...]

    @classmethod
    def none(cls, names: tuple[str, ...]) -> Examples:
        """No row of the columns `names`."""
        return cls(np.empty((0, len(names)), np.float32), np.empty(0, np.int32), np.empty(0, np.int32), names)

    @classmethod
    def join(cls, parts: Sequence[Examples]) -> Examples:
        """`parts` (at least one) of the same columns, one after the other."""
        return cls(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.groups for part in parts]),
            parts[0].names,
        )

    def save(self, path: Path) -> None:
        np.savez(path, features=self.features, labels=self.labels, groups=self.groups, names=np.array(self.names))

    @classmethod
    def open(cls, path: Path) -> Examples:
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["features"], arrays["labels"], arrays["groups"], tuple(arrays["names"].tolist()))


def sample(candidates: Candidates, qrels: Qrels, most_misses: int, seeds: Sequence[Sequence[int]]) -> tuple[np.ndarray, Ints, Ints]:
    """(rows to keep, their labels, rows per query) of the queries with a hit; the others teach no order.

    `seeds[i]` alone decides which misses of query `i` stay, so that no batch and no worker changes the examples.
    """
    rows: list[np.ndarray] = []
    labels: list[Ints] = []
    for i in range(len(candidates)):
        start, stop = candidates.offsets[i], candidates.offsets[i + 1]
        hit = np.isin(candidates.tracks[start:stop], qrels.of_query(i))
        if not hit.any():
            continue
        misses = np.random.default_rng(seeds[i]).permutation(np.flatnonzero(~hit))[:most_misses]
        kept = np.sort(np.concatenate([np.flatnonzero(hit), misses]))
        rows.append(start + kept)
        labels.append(hit[kept].astype(np.int32))
    groups = np.array([len(row) for row in rows], np.int32)
    nothing = np.empty(0, np.int64)
    return np.concatenate([nothing, *rows]), np.concatenate([nothing, *labels]).astype(np.int32), groups
