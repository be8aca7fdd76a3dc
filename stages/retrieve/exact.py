"""Exact search for the largest inner products: a coarse copy is read first, then the few vectors that may still be the best.

Input: track vectors (num_tracks, dim). Output: the exact best n tracks of each query vector.
The coarse copy holds each vector less the mean of all, turned to the principal axes, in whole numbers of one byte: the head,
its first coordinates, in steps of its own, and the tail. What rounding takes away is at most half a step per coordinate of
the query; what the tail may add is at most |tail| |query's tail| (Cauchy-Schwarz, as in FEXIPRO, Li, Chan, Yiu and
Mamoulis 2017). So all heads are read, the tails of those within reach of the n-th best, and the vectors of those still in
reach then: an eighth of the numbers' bytes, and little more than n vectors. The last word is a sum in one fixed order over
the vectors themselves, so that an answer is exact, and the same whoever else asks. Knows neither playlists nor models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from features.arrays import load_array, save_array
from features.compiled import compiled
from features.domain import Floats, Ints, Queries, Retrieved
from stages.retrieve import topk
from stages.retrieve.index import asks, open_tracks, save_kind

Codes = npt.NDArray[np.int8]

LARGEST = 127
"""The largest coordinate of a head or tail, in its steps."""
HALF_STEP = 0.51
"""What rounding takes from a coordinate at most, in steps, and what the sums over the coarse numbers round away."""
GROUP, LANES = 4, 16
"""Heads have a multiple of so many coordinates, read together; tails have a multiple of so many, a register's width."""
ROWS = 256
"""Rows whose heads stand together, coordinate by coordinate, so that they are scored side by side."""
STRETCH = 64
"""Rows passed over together where no head of theirs reaches far enough."""
TOGETHER = 4
"""Queries scored side by side, where there are as many."""
BLOCK = 4_096
"""Rows turned at once when an index is built."""
SAMPLE = 16
"""One row in so many is looked at to find about where the best begin."""
GUESSES = 2
"""Of those, so many times as many as are wanted have their tails read, the ones with the best heads."""
CAUTION = 3.0
"""Standard deviations by which a sample may mislead."""
ROUNDING = 1e-5
"""Of |query| x |longest vector|: what two ways to sum the same score may differ by."""
LONE_NS, ROW_NS, HEAD_NS, TAIL_NS, PICKED_NS = 120_000, 1.0, 0.036, 0.17, 0.6
"""Nanoseconds a query, a row, and a number of a head, of a tail and of a vector: fitted, see `choice`."""


@dataclass(frozen=True)
class ExactIndex:
    """Vectors, and the coarse copy of some of them."""

    vectors: Floats
    """(num_tracks, dim) the source's own."""
    tracks: Ints
    """(m,) the track of each row of the copy, that of the longest vector first."""
    axes: Floats
    """(dim, head + tail) the principal axes as columns, the most varied first, then zeros."""
    heads: Codes
    """(blocks, head, ROWS) coordinates on the first axes."""
    tails: Codes
    """(m, tail) coordinates on the others."""
    sizes: Floats
    """(3, m) the step of a head, the step of a tail, the length of a tail."""

    @classmethod
    def build(cls, vectors: Floats, tracks: Ints) -> Self:
        """Over the rows `tracks` (m,) of `vectors` (num_tracks, dim)."""
        lengths = np.linalg.norm(vectors[tracks], axis=1)
        tracks = tracks[np.argsort(-lengths, kind="stable")]
        mean, axes = _principal_axes(vectors[tracks])
        head, tail = _split(vectors.shape[1])
        heads = np.zeros((-(-len(tracks) // ROWS), head, ROWS), np.int8)
        tails, sizes = np.empty((len(tracks), tail), np.int8), np.empty((3, len(tracks)), np.float32)
        for block in _blocks(len(tracks)):
            turned = ((vectors[tracks[block]] - mean) @ axes).astype(np.float32)
            of_heads, sizes[0, block] = _coarse(turned[:, :head])
            tails[block], sizes[1, block] = _coarse(turned[:, head:])
            sizes[2, block] = np.linalg.norm(turned[:, head:], axis=1)
            _side_by_side(heads[block.start // ROWS :], of_heads)
        return cls(vectors, tracks, axes, heads, tails, sizes)

    def search(self, query_vectors: Floats, queries: Queries, n: int) -> Retrieved:
        """The best `n` tracks of each row of `query_vectors` (q, dim) that its query does not exclude."""
        result = topk.empty(len(queries), n)
        asking = np.flatnonzero(asks(query_vectors))
        for i, likely in zip(asking.tolist(), self._likely(query_vectors[asking]), strict=True):
            excluded = queries.excluded(i)
            _, rows = self._within_reach(query_vectors[i], likely, n + len(excluded))
            tracks = self.tracks[rows]
            topk.put(result, i, tracks, _products(self.vectors, tracks, query_vectors[i]), excluded)
        return Retrieved(result.tracks, result.scores, query_vectors)

    def _likely(self, query_vectors: Floats) -> Iterator[Floats]:
        """For each query vector (m,) what the heads alone score, good until the next is asked for: all are written in one place."""
        queries = query_vectors @ self.axes[:, : self.heads.shape[1]]
        room = np.empty((min(TOGETHER, len(queries)), len(self.tracks)), np.float32)
        for start in range(0, len(queries), TOGETHER):
            group = queries[start : start + TOGETHER]
            if len(group) == TOGETHER:
                _of_heads_together(self.heads, self.sizes, group, room)
            else:
                for query, scores in zip(group, room, strict=False):
                    _of_heads(self.heads, self.sizes, query, scores)
            yield from room[: len(group)]

    def within_reach(self, query_vector: Floats, n: int) -> tuple[Ints, Ints]:
        """The rows that may be among the best `n` as far as their heads tell, and those of them as far as their tails tell."""
        [likely] = self._likely(query_vector[None])
        return self._within_reach(query_vector, likely, n)

    def _within_reach(self, query_vector: Floats, likely: Floats, n: int) -> tuple[Ints, Ints]:
        query, slack = _Turned.of(query_vector @ self.axes, self.heads.shape[1]), self._slack(query_vector)
        wanted = self._about_nth_best(query, likely, n)
        while True:
            by_head = _reachable(likely, self.sizes, query.head_error, query.tail_length, wanted - slack)
            least, most = query.bounds(self, likely, by_head)
            nth_best = topk.floor(least, n)
            if nth_best >= wanted:
                return by_head, by_head[most >= nth_best - slack]
            wanted = nth_best  # less than `n` reach what was wanted: seldom, and then once

    def _about_nth_best(self, query: _Turned, likely: Floats, n: int) -> float:
        """What a few more than `n` reach, most likely: read off a sample, by the least that its best may score."""
        sample, share = likely[::SAMPLE].copy(), n / SAMPLE
        enough = int(share + CAUTION * share**0.5) + 1
        best = np.flatnonzero(sample >= topk.floor(sample, GUESSES * enough)).astype(np.int32)
        least, _ = query.bounds(self, likely, best * SAMPLE)
        return topk.floor(least, enough)

    def search_ns(self, query_vector: Floats, n: int) -> float:
        """About how long one thread takes for a query, by the numbers it must read."""
        by_head, by_tail = self.within_reach(query_vector, n)
        heads = len(self.tracks) * (ROW_NS + self.heads.shape[1] * HEAD_NS)
        tails = len(by_head) * self.tails.shape[1] * TAIL_NS
        picked = len(by_tail) * self.vectors.shape[1] * PICKED_NS
        return float(LONE_NS + heads + tails + picked)

    def _slack(self, query_vector: Floats) -> float:
        return 2 * ROUNDING * float(np.linalg.norm(query_vector)) * self._longest

    @cached_property
    def _longest(self) -> float:
        return float(np.linalg.norm(self.vectors[self.tracks[0]])) if len(self.tracks) else 0.0

    def save(self, folder: Path) -> dict[str, Any]:
        """All but the vectors, which the source saves."""
        for name in ("tracks", "axes", "heads", "tails", "sizes"):
            save_array(folder / f"index_{name}.npy", getattr(self, name))
        save_kind(folder, "exact", self.vectors.shape[1])
        return {"index": "exact"}

    @classmethod
    def open(cls, folder: Path, vectors: Floats) -> Self:
        """Over the `vectors` (num_tracks, dim) it was built over."""
        tracks = open_tracks(folder, len(vectors))
        dim, m = vectors.shape[1], len(tracks)
        head, tail = _split(dim)
        axes = load_array(folder / "index_axes.npy", dtype=np.float32, shape=(dim, head + tail))
        heads = load_array(folder / "index_heads.npy", dtype=np.int8, shape=(-(-m // ROWS), head, ROWS), mmap=True)
        tails = load_array(folder / "index_tails.npy", dtype=np.int8, shape=(m, tail), mmap=True)
        sizes = load_array(folder / "index_sizes.npy", dtype=np.float32, shape=(3, m), mmap=True)
        return cls(vectors, tracks, axes, heads, tails, sizes)


@dataclass(frozen=True)
class _Turned:
    """A query vector on the principal axes, and how far the coarse numbers may mislead it."""

    tail: Floats
    head_error: float
    """What a head's score may be wrong by, in steps of the head."""
    tail_error: float
    tail_length: float

    @classmethod
    def of(cls, turned: Floats, head: int) -> Self:
        first, rest = turned[:head], turned[head:]
        head_error, tail_error = (HALF_STEP * float(np.abs(part).sum()) for part in (first, rest))
        return cls(rest, head_error, tail_error, float(np.linalg.norm(rest)))

    def bounds(self, index: ExactIndex, likely: Floats, rows: Ints) -> tuple[Floats, Floats]:
        """(k,) the least and the most that the `rows` (k,) may score, by head and tail."""
        return _bounds(likely, index.tails, index.sizes, rows, self.tail, self.head_error, self.tail_error)


@compiled
def _of_heads(heads: Codes, sizes: Floats, query: Floats, scores: Floats) -> None:
    """Into `scores` (m,) what the heads alone score."""
    sums = np.empty(ROWS, np.float32)
    for block in range(heads.shape[0]):
        sums[:] = 0
        for first in range(0, query.size, GROUP):
            a, b, c, d = _group(query, first)
            codes = heads[block, first : first + GROUP]
            for row in range(ROWS):
                sums[row] += a * codes[0, row] + b * codes[1, row] + c * codes[2, row] + d * codes[3, row]
        _in_steps(sums, sizes, block, scores)


@compiled
def _of_heads_together(heads: Codes, sizes: Floats, queries: Floats, scores: Floats) -> None:
    """As `_of_heads` into `scores` (TOGETHER, m): what is read and made a float once serves all."""
    sums = np.empty((TOGETHER, ROWS), np.float32)
    for block in range(heads.shape[0]):
        sums[:] = 0
        for first in range(0, queries.shape[1], GROUP):
            (a0, b0, c0, d0), (a1, b1, c1, d1) = _group(queries[0], first), _group(queries[1], first)
            (a2, b2, c2, d2), (a3, b3, c3, d3) = _group(queries[2], first), _group(queries[3], first)
            codes = heads[block, first : first + GROUP]
            for row in range(ROWS):
                a, b, c, d = np.float32(codes[0, row]), np.float32(codes[1, row]), np.float32(codes[2, row]), np.float32(codes[3, row])
                sums[0, row] += a0 * a + b0 * b + c0 * c + d0 * d
                sums[1, row] += a1 * a + b1 * b + c1 * c + d1 * d
                sums[2, row] += a2 * a + b2 * b + c2 * c + d2 * d
                sums[3, row] += a3 * a + b3 * b + c3 * c + d3 * d
        for query in range(TOGETHER):
            _in_steps(sums[query], sizes, block, scores[query])


@compiled
def _in_steps(sums: Floats, sizes: Floats, block: int, scores: Floats) -> None:
    """Writes the block's `sums` (ROWS,), each in the steps of its head."""
    own, steps = scores[block * ROWS : (block + 1) * ROWS], sizes[0, block * ROWS : (block + 1) * ROWS]
    for row in range(own.size):
        own[row] = sums[row] * steps[row]


@compiled
def _group(query: Floats, first: int) -> tuple[float, float, float, float]:
    return query[first], query[first + 1], query[first + 2], query[first + 3]


@compiled
def _reachable(likely: Floats, sizes: Floats, head_error: float, tail_length: float, wanted: float) -> Ints:
    """The rows whose heads leave it possible to score what is `wanted`.

    Few are: stretches are passed over whole, by a count that takes rows side by side, and what is left is written without a
    branch, which would be guessed wrong too often.
    """
    rows, count = np.empty(likely.size + 1, np.int32), 0
    error, length, least = np.float32(head_error), np.float32(tail_length), np.float32(wanted)
    for start in range(0, likely.size, STRETCH):
        part = slice(start, start + STRETCH)
        scores, steps, lengths, reach = likely[part], sizes[0, part], sizes[2, part], 0
        for row in range(scores.size):
            reach += int(scores[row] + error * steps[row] + length * lengths[row] >= least)
        for row in range(scores.size if reach else 0):
            rows[count] = start + row
            count += int(scores[row] + error * steps[row] + length * lengths[row] >= least)
    return rows[:count]


@compiled
def _bounds(
    likely: Floats, tails: Codes, sizes: Floats, rows: Ints, query: Floats, head_error: float, tail_error: float
) -> tuple[Floats, Floats]:
    """(k,) the least and the most that each of `rows` (k,) may score, by head and tail."""
    least, most = np.empty(rows.size, np.float32), np.empty(rows.size, np.float32)
    for place in range(rows.size):
        row, summed = rows[place], np.float32(0)
        for column in range(query.size):
            summed += query[column] * tails[row, column]
        score = likely[row] + summed * sizes[1, row]
        error = head_error * sizes[0, row] + tail_error * sizes[1, row]
        least[place], most[place] = score - error, score + error
    return least, most


@compiled
def _products(vectors: Floats, tracks: Ints, query: Floats) -> Floats:
    """(k,) the score of each of `tracks` (k,), summed in one and the same order, whoever else is asked for."""
    scores = np.empty(tracks.size, np.float32)
    for place in range(tracks.size):
        track, summed = tracks[place], np.float32(0)
        for column in range(query.size):
            summed += vectors[track, column] * query[column]
        scores[place] = summed
    return scores


def _split(dim: int) -> tuple[int, int]:
    """How many coordinates a head and a tail have."""
    width = -(-dim // GROUP) * GROUP
    tail = dim // 2 // LANES * LANES
    return width - tail, tail


def _principal_axes(rows: Floats) -> tuple[Floats, Floats]:
    """The mean of `rows` (m, dim), and the directions in which they vary, most first, filled up with columns of zeros."""
    m, dim = max(len(rows), 1), rows.shape[1]
    mean = rows.sum(axis=0, dtype=np.float64) / m
    _, axes = np.linalg.eigh((rows.T @ rows).astype(np.float64) / m - np.outer(mean, mean))  # ascending
    filling = np.zeros((dim, sum(_split(dim)) - dim))
    return mean.astype(np.float32), np.concatenate([axes[:, ::-1], filling], axis=1).astype(np.float32)


def _coarse(coordinates: Floats) -> tuple[Codes, Floats]:
    """(k, width) as whole numbers, and (k,) the step of each row."""
    steps = np.abs(coordinates).max(axis=1, initial=0) / np.float32(LARGEST)
    return np.rint(coordinates / np.maximum(steps, np.finfo(np.float32).tiny)[:, None]).astype(np.int8), steps


def _side_by_side(heads: Codes, rows: Codes) -> None:
    """Writes `rows` (k, head) into the first blocks of `heads` (blocks, head, ROWS)."""
    for block, start in enumerate(range(0, len(rows), ROWS)):
        part = rows[start : start + ROWS]
        heads[block, :, : len(part)] = part.T


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, rows, BLOCK))
