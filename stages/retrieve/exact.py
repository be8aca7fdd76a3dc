"""Exact search for the largest inner products, stopped early by the vectors' lengths.

Input: track vectors (num_tracks, dim). Output: the exact best n tracks of each query vector.
The vectors lie in descending length. By Cauchy-Schwarz no vector can score more than |query| x |vector|, so the
scan over blocks ends once the n-th best score so far is out of reach: vectors of implicit-feedback models have very
unequal lengths, and most of a long tail is never touched. Knows neither playlists nor models.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from features.arrays import load_array, save_array
from features.domain import Floats, Ints, Queries, Retrieved
from stages.retrieve import topk
from stages.retrieve.index import asks

FIRST_BLOCK = 4_096
"""Rows of the first block; every later block is twice as long, so that a full scan takes few steps."""

SPARE = 16
"""Tracks kept beyond the wanted ones until all are scored again, so that rounding decides about none."""


@dataclass(frozen=True)
class ExactIndex:
    """Vectors in descending length, with the track each belongs to."""

    vectors: Floats
    """(m, dim), longest first."""
    tracks: Ints
    """(m,) the track of each row."""
    lengths: Floats
    """(m,) the rows' euclidean lengths, descending."""

    @classmethod
    def build(cls, vectors: Floats, tracks: Ints) -> Self:
        """Over the rows `tracks` (m,) of `vectors`."""
        lengths = np.linalg.norm(vectors[tracks], axis=1).astype(np.float32)
        order = np.argsort(-lengths, kind="stable")
        return cls(np.ascontiguousarray(vectors[tracks[order]]), tracks[order], lengths[order])

    def search(self, query_vectors: Floats, queries: Queries, n: int) -> Retrieved:
        """The best `n` tracks of each row of `query_vectors` (q, dim) that its query does not exclude."""
        result = topk.empty(len(queries), n)
        excluded = [queries.excluded(i) for i in range(len(queries))]
        kept = [(np.empty(0, np.int32), np.empty(0, np.float32)) for _ in excluded]
        most = [n + len(of_query) + SPARE for of_query in excluded]
        reach = np.linalg.norm(query_vectors, axis=1)
        open_queries = np.flatnonzero(asks(query_vectors))
        start, size = 0, max(FIRST_BLOCK, n)
        while start < len(self.tracks) and len(open_queries):
            block = slice(start, start + size)
            scores = query_vectors[open_queries] @ self.vectors[block].T
            for row, i in enumerate(open_queries.tolist()):
                kept[i] = self._merge(kept[i], self.tracks[block], scores[row], most[i])
            start, size = start + size, size * 2
            if start < len(self.tracks):
                open_queries = np.array([i for i in open_queries if self._may_improve(kept[i], reach[i], start, most[i])], int)
        for i, (tracks, _) in enumerate(kept):
            topk.put(result, i, tracks, self._scores(tracks, query_vectors[i]), excluded[i])
        return Retrieved(result.tracks, result.scores, query_vectors)

    def _scores(self, tracks: Ints, query_vector: Floats) -> Floats:
        """(len(tracks),) summed in one and the same order: a matrix product rounds by how many queries there are."""
        return np.asarray(np.einsum("nd,d->n", self.vectors[self._row_of[tracks]], query_vector), np.float32)

    @cached_property
    def _row_of(self) -> Ints:
        """(largest track + 1,) the row of each track that is in the index."""
        rows = np.zeros(int(self.tracks.max(initial=-1)) + 1, np.int32)
        rows[self.tracks] = np.arange(len(self.tracks), dtype=np.int32)
        return rows

    @staticmethod
    def _merge(kept: tuple[Ints, Floats], tracks: Ints, scores: Floats, n: int) -> tuple[Ints, Floats]:
        if len(kept[0]) >= n:
            better = np.flatnonzero(scores >= kept[1][-1])
            tracks, scores = tracks[better], scores[better]
        return topk.best(np.concatenate([kept[0], tracks]), np.concatenate([kept[1], scores]), n)

    def _may_improve(self, kept: tuple[Ints, Floats], reach: float, start: int, n: int) -> bool:
        """Rounding is allowed for: a bound that only just misses is scanned."""
        return len(kept[1]) < n or bool(reach * self.lengths[start] * 1.000_01 >= kept[1][-1])

    def save(self, folder: Path) -> dict[str, Any]:
        save_array(folder / "index_vectors.npy", self.vectors)
        save_array(folder / "index_tracks.npy", self.tracks)
        save_array(folder / "index_lengths.npy", self.lengths)
        return {"index": "exact"}

    @classmethod
    def open(cls, folder: Path, dim: int) -> Self:
        tracks = load_array(folder / "index_tracks.npy", dtype=np.int32, shape=(None,), mmap=True)
        vectors = load_array(folder / "index_vectors.npy", dtype=np.float32, shape=(len(tracks), dim), mmap=True)
        return cls(vectors, tracks, load_array(folder / "index_lengths.npy", dtype=np.float32, shape=(len(tracks),), mmap=True))
