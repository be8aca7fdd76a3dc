"""Exact search for the largest inner products: bounds first, then the few vectors that may still be among the best.

Input: track vectors (num_tracks, dim). Output: the exact best n tracks of each query vector.
The vectors are turned to their principal axes, and of each only the head is kept beside it: its first coordinates, and
the length of the rest. By Cauchy-Schwarz no score exceeds head . head + |rest| |rest|, so that a lone query reads a
quarter of the numbers and then the whole vectors of those within reach of the n-th best alone (the partial products of
FEXIPRO, Li, Chan, Yiu and Mamoulis 2017). Many queries together, and one whose bounds say little, scan all vectors as one
matrix product. Either way the last word is a sum in one fixed order, so that an answer does not depend on the batch it
travels in. Knows neither playlists nor models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from features.arrays import load_array, save_array
from features.domain import Floats, Ints, Offsets, Queries, Retrieved
from stages.retrieve import topk
from stages.retrieve.index import asks, save_kind

HEAD_SHARE = 4
"""One coordinate in so many belongs to the head."""
LEAST_HEAD = 16
"""Coordinates of a head, where there are as many: with fewer than this the whole vector is soon read."""
LONE = 2
"""Up to so many queries go by bounds; more of them share one scan, which is then cheaper for each."""
SCAN_SHARE = 3
"""Where bounds leave more than one row in so many, all are scanned: rows in order are read faster than picked ones."""
GUESSES = 2
"""The n-th best score is guessed from so many times n rows, scored in full."""
SAMPLE = 8
"""One score in so many is looked at to find where the best begin."""
ROUNDING = 1e-5
"""Of |query| x |longest vector|: what two ways to sum the same score may differ by."""
LONE_NS, ROW_NS, HEAD_NS, PICKED_NS, SCANNED_NS = 200_000, 3.0, 0.13, 0.6, 0.35
"""Nanoseconds a query, a row, and a number of a head, of a picked and of a scanned row: fitted, see `choice`."""
BLOCK, GATHERED = 4_096, 512
"""Rows of one matrix product, and rows picked at once: what a core's cache holds."""
SCORES = 4_000_000
"""Scores held at once; bounds the working memory of a batch."""


@dataclass(frozen=True)
class ExactIndex:
    """Vectors in descending length, their heads, and the track each belongs to."""

    vectors: Floats
    """(m, dim), longest first."""
    tracks: Ints
    """(m,) the track of each row."""
    axes: Floats
    """(dim, head) the first principal axes of the vectors, as columns."""
    heads: Floats
    """(head + 1, m) each row's coordinates on these axes and, last, the length of what they leave of it."""

    @classmethod
    def build(cls, vectors: Floats, tracks: Ints) -> Self:
        """Over the rows `tracks` (m,) of `vectors` (num_tracks, dim)."""
        return cls.over(vectors[tracks], tracks)

    @classmethod
    def over(cls, rows: Floats, tracks: Ints) -> Self:
        """Over all `rows` (m, dim), which belong to `tracks` (m,)."""
        order = np.argsort(-np.linalg.norm(rows, axis=1), kind="stable")
        kept = np.ascontiguousarray(rows[order])
        axes = _principal_axes(kept)
        heads = np.empty((axes.shape[1] + 1, len(kept)), np.float32)
        for block in _blocks(len(kept), BLOCK):
            heads[:-1, block], heads[-1, block] = (part.T for part in _split(kept[block], axes))
        return cls(kept, tracks[order], axes, heads)

    def search(self, query_vectors: Floats, queries: Queries, n: int) -> Retrieved:
        """The best `n` tracks of each row of `query_vectors` (q, dim) that its query does not exclude."""
        result = topk.empty(len(queries), n)
        excluded = {int(i): queries.excluded(int(i)) for i in np.flatnonzero(asks(query_vectors))}
        wanted = {i: n + len(of_query) for i, of_query in excluded.items()}
        for i, rows in self._near(query_vectors, wanted).items():
            scores = self._scores(rows, query_vectors[i])
            best = np.flatnonzero(scores >= _nth_best(scores, wanted[i]))
            topk.put(result, i, self.tracks[rows[best]], scores[best], excluded[i])
        return Retrieved(result.tracks, result.scores, query_vectors)

    def _near(self, query_vectors: Floats, wanted: dict[int, int]) -> dict[int, Offsets]:
        """For each query `i` of `wanted` some rows, among which are its best `wanted[i]`."""
        if len(wanted) > LONE:
            return self._scan(query_vectors, wanted)
        near = {i: self.within_reach(query_vectors[i], n) for i, n in wanted.items()}
        pruned = {i: rows for i, rows in near.items() if self._worth_picking(rows)}
        return pruned | self._scan(query_vectors, {i: n for i, n in wanted.items() if i not in pruned})

    def within_reach(self, query_vector: Floats, n: int) -> Offsets:
        """The rows whose bounds do not rule them out of the best `n`."""
        inside, rest = _split(query_vector[None], self.axes)
        likely = inside[0] @ self.heads[:-1]
        guess = np.flatnonzero(likely >= _about_nth_best(likely, GUESSES * n))
        least = _nth_best(self._scores(guess, query_vector), n) - self._slack(query_vector)
        return np.flatnonzero(likely + rest * self.heads[-1] >= least)

    def _worth_picking(self, rows: Offsets) -> bool:
        return len(rows) * SCAN_SHARE <= len(self.tracks)

    def search_ns(self, query_vector: Floats, n: int) -> float:
        """About how long one thread takes for a lone query, by the rows it must bound, pick and perhaps scan."""
        rows, (m, dim) = self.within_reach(query_vector, n), self.vectors.shape
        bounds: float = LONE_NS + m * (len(self.heads) * HEAD_NS + ROW_NS) + GUESSES * n * dim * PICKED_NS
        rest: float = dim * (len(rows) * PICKED_NS if self._worth_picking(rows) else m * SCANNED_NS)
        return bounds + rest

    def _scan(self, query_vectors: Floats, wanted: dict[int, int]) -> dict[int, Offsets]:
        """As `_near`, from all scores."""
        near, asked = {}, list(wanted)
        for group in _blocks(len(asked), max(1, SCORES // max(1, len(self.tracks)))):
            for i, scores in zip(asked[group], self._products(query_vectors[asked[group]]), strict=True):
                best = scores[scores >= _about_nth_best(scores, wanted[i])]
                near[i] = np.flatnonzero(scores >= _nth_best(best, wanted[i]) - self._slack(query_vectors[i]))
        return near

    def _products(self, query_vectors: Floats) -> Floats:
        """(q, m) all scores, rounded as a matrix product of so many queries rounds them."""
        scores = np.empty((len(query_vectors), len(self.vectors)), np.float32)
        columns = np.ascontiguousarray(query_vectors.T)
        for block in _blocks(len(self.vectors), BLOCK):
            scores[:, block] = (self.vectors[block] @ columns).T  # half the time of columns.T @ vectors.T
        return scores

    def _scores(self, rows: Offsets, query_vector: Floats) -> Floats:
        """(len(rows),) each summed in one and the same order, whoever else is asked for."""
        scores = np.empty(len(rows), np.float32)
        for block in _blocks(len(rows), GATHERED):
            scores[block] = np.einsum("nd,d->n", self.vectors.take(rows[block], axis=0, mode="clip"), query_vector)
        return scores

    def _slack(self, query_vector: Floats) -> float:
        return 2 * ROUNDING * float(np.linalg.norm(query_vector)) * self._longest

    @cached_property
    def _longest(self) -> float:
        return float(np.linalg.norm(self.vectors[0])) if len(self.vectors) else 0.0

    def save(self, folder: Path) -> dict[str, Any]:
        save_array(folder / "index_vectors.npy", self.vectors)
        save_array(folder / "index_tracks.npy", self.tracks)
        save_array(folder / "index_axes.npy", self.axes)
        save_array(folder / "index_heads.npy", self.heads)
        save_kind(folder, "exact")
        return {"index": "exact"}

    @classmethod
    def open(cls, folder: Path, dim: int) -> Self:
        tracks = load_array(folder / "index_tracks.npy", dtype=np.int32, shape=(None,), mmap=True)
        vectors = load_array(folder / "index_vectors.npy", dtype=np.float32, shape=(len(tracks), dim), mmap=True)
        axes = load_array(folder / "index_axes.npy", dtype=np.float32, shape=(dim, _head(dim)))
        heads = load_array(folder / "index_heads.npy", dtype=np.float32, shape=(_head(dim) + 1, len(tracks)), mmap=True)
        return cls(vectors, tracks, axes, heads)


def _head(dim: int) -> int:
    return min(dim, max(LEAST_HEAD, dim // HEAD_SHARE))


def _principal_axes(vectors: Floats) -> Floats:
    """(dim, head) orthonormal columns: the directions in which `vectors` (m, dim) are longest."""
    gram = np.asarray(vectors.T @ vectors, np.float64)
    _, axes = np.linalg.eigh(gram)  # ascending
    return np.ascontiguousarray(axes[:, ::-1][:, : _head(len(gram))], np.float32)


def _split(vectors: Floats, axes: Floats) -> tuple[Floats, Floats]:
    """(m, head) the coordinates on `axes` (dim, head), (m,) the length of the rest."""
    inside = vectors @ axes
    return inside, np.linalg.norm(vectors - inside @ axes.T, axis=1)


def _blocks(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, rows, size))


def _nth_best(scores: Floats, n: int) -> float:
    """Minus infinity where there are no more than `n`."""
    return float(np.partition(scores, len(scores) - n)[len(scores) - n]) if len(scores) > n else -np.inf


def _about_nth_best(scores: Floats, n: int) -> float:
    """What at least `n` scores reach, or all of them, and seldom many more than `n`: read off a sample."""
    sample = scores[::SAMPLE]
    likely = _nth_best(sample, n * 3 // (2 * SAMPLE) + SAMPLE)
    return likely if np.count_nonzero(scores >= likely) >= n else _nth_best(scores, n)
