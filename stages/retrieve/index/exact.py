"""Exact search for the largest inner products: a coarse copy is read first, then the few vectors that may still be the best.

Input: track vectors (num_tracks, dim). Output: the exact best n tracks of each query vector.
The coarse copy holds each vector less the mean of all, turned to the principal axes, in whole numbers of one byte: the head,
its first coordinates, in steps of its own, and the tail. What rounding takes away is at most half a step per coordinate of
the query; what the tail may add is at most |tail| |query's tail| (Cauchy-Schwarz, as in FEXIPRO, Li, Chan, Yiu and
Mamoulis 2017). So all heads are read, the tails of those within reach of the n-th best, and the vectors of those still in
reach then: an eighth of the numbers' bytes, and little more than n vectors. The final scores are sums in one fixed order
over the vectors themselves: results are exact and do not depend on the batch. Knows neither playlists nor models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from features.arrays import ArraySpec, floats
from features.domain import Floats, Ints, Offsets, Queries, Retrieved
from features.npy import load_array, read_only, save_array
from features.ragged import offsets_of
from stages.retrieve import search_kernels, topk
from stages.retrieve.index.protocol import Kind, SavedIndex, asks, open_tracks
from stages.retrieve.search_kernels import GROUP, ROWS, SAMPLE, Codes, Copy

LARGEST = 127
"""The largest coordinate of a head or tail, in its steps."""
LANES = 16
"""Tails have a multiple of so many coordinates, a register's width."""
BLOCK = 4_096
"""Rows turned at once when an index is built."""
NONE = np.empty(0, np.int32)
"""No tracks."""
LONE_NS, ROW_NS, HEAD_NS, TAIL_NS, PICKED_NS = 120_000, 1.0, 0.036, 0.17, 0.6
"""Nanoseconds a query, a row, and a number of a head, of a tail and of a vector: fitted, see `selection`."""


@dataclass(frozen=True, repr=False)
class ExactIndex:
    """Vectors, and the coarse copy of some of them."""

    kind: ClassVar[Kind] = "exact"
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

    def __repr__(self) -> str:
        return f"<ExactIndex: {len(self.tracks):,} tracks x {self.vectors.shape[1]} dimensions>"

    def search(self, query_vectors: Floats, queries: Queries, n: int) -> Retrieved:
        """The best `n` tracks of each row of `query_vectors` (q, dim) that its query does not exclude."""
        result = topk.empty(len(queries), n)
        asking = np.flatnonzero(asks(query_vectors))
        excluded = [queries.excluded(i) for i in asking.tolist()]
        result.tracks[asking], result.scores[asking], _ = self._search(query_vectors[asking], excluded, n)
        return Retrieved(result.tracks, result.scores, query_vectors)

    def _search(self, query_vectors: Floats, excluded: Sequence[Ints], n: int) -> tuple[Ints, Floats, Offsets]:
        """(q, n) the best tracks, (q, n) their scores, (q, 2) of how many rows the tail was read, and the vector."""
        result, offsets = topk.empty(len(query_vectors), n), offsets_of([len(tracks) for tracks in excluded])
        asked = query_vectors, query_vectors @ self.axes, np.concatenate([NONE, *excluded]), offsets
        return result.tracks, result.scores, search_kernels.search(*self._searched, *asked, result.tracks, result.scores)

    @cached_property
    def _searched(self) -> tuple[Copy, Copy, Ints, Floats]:
        """The copy, a sample of it, the tracks and the vectors, as `search_kernels.search` takes them."""
        copy = Copy(read_only(self.heads), read_only(self.tails), read_only(self.sizes))
        return copy, _sample(copy), read_only(self.tracks), read_only(self.vectors)

    def read(self, query_vector: Floats, n: int) -> tuple[int, int]:
        """Of how many rows the tail is read to find the best `n`, and of how many the vector."""
        _, _, read = self._search(query_vector[None], [NONE], n)
        by_head, by_tail = read[0].tolist()
        return by_head, by_tail

    def search_ns(self, query_vector: Floats, n: int) -> float:
        """About how long one thread takes for a query, by the numbers it must read."""
        by_head, by_tail = self.read(query_vector, n)
        heads = len(self.tracks) * (ROW_NS + self.heads.shape[1] * HEAD_NS)
        tails = by_head * self.tails.shape[1] * TAIL_NS
        picked = by_tail * self.vectors.shape[1] * PICKED_NS
        return float(LONE_NS + heads + tails + picked)

    def save(self, folder: Path) -> dict[str, Any]:
        """All but the vectors, which the source saves."""
        for name in ("tracks", "axes", "heads", "tails", "sizes"):
            save_array(folder / f"index_{name}.npy", getattr(self, name))
        SavedIndex(kind=self.kind, dim=self.vectors.shape[1]).save(folder)
        return {"index": "exact"}

    @classmethod
    def open(cls, folder: Path, vectors: Floats) -> Self:
        """Over the `vectors` (num_tracks, dim) it was built over."""
        tracks = open_tracks(folder, len(vectors))
        dim, m = vectors.shape[1], len(tracks)
        head, tail = _split(dim)
        axes = load_array(folder / "index_axes.npy", floats(dim, head + tail))
        heads = load_array(folder / "index_heads.npy", _codes(-(-m // ROWS), head, ROWS), mmap=True)
        tails = load_array(folder / "index_tails.npy", _codes(m, tail), mmap=True)
        sizes = load_array(folder / "index_sizes.npy", floats(3, m, low=0), mmap=True)
        return cls(vectors, tracks, axes, heads, tails, sizes)


def _codes(*shape: int) -> ArraySpec:
    return ArraySpec(np.int8, shape, -LARGEST, LARGEST)


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


def _sample(copy: Copy) -> Copy:
    """One row in SAMPLE of `copy`, those of SAMPLE blocks in one."""
    blocks, head, _ = copy.heads.shape
    rows = np.zeros((-(-blocks // SAMPLE) * SAMPLE, head, ROWS // SAMPLE), np.int8)
    rows[:blocks] = copy.heads[:, :, ::SAMPLE]
    heads = rows.reshape(-1, SAMPLE, head, ROWS // SAMPLE).swapaxes(1, 2).reshape(-1, head, ROWS)
    return Copy(*(read_only(part) for part in (heads, copy.tails[::SAMPLE].copy(), copy.sizes[:, ::SAMPLE].copy())))


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, rows, BLOCK))
