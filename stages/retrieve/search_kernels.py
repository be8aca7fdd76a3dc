"""Compiled kernels of exact search and top-k selection.

They are in one file because they call each other, see `features.jit`: a batch of queries goes through exact search in
one call, from query vectors to rows of the answer, while other threads run. Input: plain arrays, of which `exact` and
`topk`, their callers, say what they are. Knows neither playlists nor models.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.domain import Floats, Ints, Offsets
from features.jit import compiled

Codes = npt.NDArray[np.int8]

HALF_STEP = 0.51
"""What rounding takes from a coordinate at most, in steps, and what the sums over the coarse numbers round away."""
GROUP = 4
"""Heads have a multiple of so many coordinates, read together."""
ROWS = 256
"""Rows whose heads stand together, coordinate by coordinate, so that they are scored side by side."""
STRETCH = 8
"""Rows passed over together where no head of theirs reaches far enough: their flags are one number of 64 bits."""
TOGETHER, FEW = 4, 2
"""Queries scored side by side; so few that are left over are better scored alone than beside empty places."""
SAMPLE = 16
"""One row in so many is looked at to find about where the best begin."""
GUESSES = 2
"""Of those, so many times as many as are wanted have their tails read, the ones with the best heads."""
CAUTION = 3.0
"""Standard deviations by which a sample may mislead."""
ROUNDING = 1e-5
"""Of |query| x |longest vector|: what two ways to sum the same score may differ by."""
LEVEL = 11
"""Bits of a score looked at in one pass."""
ALL_BITS = 0x7FFFFFFF
"""A negative float's bits, but for the sign, count downwards."""


class Copy(NamedTuple):
    """Some rows in coarse numbers."""

    heads: Codes
    """(blocks, head, ROWS)"""
    tails: Codes
    """(m, tail)"""
    sizes: Floats
    """(3, m) the step of a head, the step of a tail, the length of a tail."""


class Turned(NamedTuple):
    """Query vectors on the principal axes, and how far the coarse numbers may mislead each."""

    heads: Floats
    """(places, head) a query may leave its place empty: all zeros."""
    tails: Floats
    """(places, tail)"""
    margins: Floats
    """(places, 4) what a head's and a tail's score may be wrong by, in their steps; the tail's length; what rounding does to a score."""


class Near(NamedTuple):
    """Rows that may be among the best of each query: each the first of many places."""

    rows: Ints
    """(places, m + 1)"""
    likely: Floats
    """(places, m + 1) what their heads alone score."""


@compiled
def search(
    copy: Copy,
    sample: Copy,
    tracks: Ints,
    vectors: Floats,
    queries: Floats,
    turned: Floats,
    excluded: Ints,
    offsets: Offsets,
    to_tracks: Ints,
    to_scores: Floats,
) -> Offsets:
    """Writes the best of `tracks` (m,) for each of `queries` (q, dim), `turned` (q, head + tail), into `to_tracks` and `to_scores`
    (q, n), but for `excluded[offsets[i]:offsets[i + 1]]`. Returns (q, 2) of how many rows it read the tail, and the vector."""
    read, wanted = np.zeros((len(queries), 2), np.int64), to_tracks.shape[1] + offsets[1:] - offsets[:-1]
    longest, start = _length(vectors[tracks[0]]) if len(tracks) else 0.0, 0
    while start < len(queries) and len(tracks):
        stop = min(start + TOGETHER, len(queries)) if start + FEW < len(queries) else start + 1
        group = _turned(turned[start:stop], copy.heads.shape[1])
        for i in range(start, stop):
            group.margins[i - start, 3] = 2 * ROUNDING * longest * _length(queries[i])
        near = _within_reach(copy, sample, group, wanted[start:stop], read[start:stop])
        for i in range(start, stop):
            picked = tracks[near.rows[i - start, : read[i, 1]]]
            best_tracks, scores = best(picked, _products(vectors, picked, queries[i]), wanted[i])
            write(best_tracks, scores, np.sort(excluded[offsets[i] : offsets[i + 1]]), to_tracks[i], to_scores[i])
        start = stop
    return read


@compiled
def _turned(turned: Floats, head: int) -> Turned:
    """The margins but for that of rounding; one query alone has one place, several have TOGETHER."""
    places = TOGETHER if len(turned) > 1 else 1
    heads, tails = np.zeros((places, head), np.float32), np.zeros((places, turned.shape[1] - head), np.float32)
    margins = np.zeros((places, 4), np.float32)
    for i in range(len(turned)):
        heads[i], tails[i] = turned[i, :head], turned[i, head:]
        margins[i, 0] = HALF_STEP * np.abs(heads[i]).sum()
        margins[i, 1] = HALF_STEP * np.abs(tails[i]).sum()
        margins[i, 2] = _length(tails[i])
    return Turned(heads, tails, margins)


@compiled
def _within_reach(copy: Copy, sample: Copy, queries: Turned, n: Offsets, read: Offsets) -> Near:
    """The rows that may be among the best `n` (q,) of each query, of which there are `read[:, 1]`; `read[:, 0]` were so by their heads."""
    near = Near(np.empty((len(n), copy.sizes.shape[1] + 1), np.int32), np.empty((len(n), copy.sizes.shape[1] + 1), np.float32))
    wanted = _about_nth_best(sample, queries, n)
    _find(copy, queries, wanted, near, read)
    for i in range(len(n)):
        nth_best = _sift(copy, queries, i, near, read[i], wanted[i], n[i])
        while nth_best < wanted[i]:  # less than `n` reach what was wanted: seldom, and then once
            wanted[i], own = nth_best, slice(i, i + 1)
            alone = Turned(queries.heads[own], queries.tails[own], queries.margins[own])
            _find(copy, alone, wanted[own], Near(near.rows[own], near.likely[own]), read[own])
            nth_best = _sift(copy, queries, i, near, read[i], wanted[i], n[i])
    return near


@compiled
def _about_nth_best(sample: Copy, queries: Turned, n: Offsets) -> Floats:
    """(q,) what a few more than `n` (q,) reach, most likely: read off a `sample`, by the least that its best may score."""
    found, sums = np.empty(len(n), np.float32), np.empty((len(queries.heads), ROWS), np.float32)
    likely = np.empty((len(n), sample.sizes.shape[1]), np.float32)
    for block in range(len(sample.heads)):
        _score(sample, block, queries.heads, sums)
        for i in range(len(n)):
            own = likely[i, block * ROWS : (block + 1) * ROWS]
            own[:] = sums[i, : own.size]
    for i in range(len(n)):
        share = n[i] / SAMPLE
        enough = int(share + CAUTION * share**0.5) + 1
        rows = np.flatnonzero(likely[i] >= floor(likely[i], GUESSES * enough)).astype(np.int32)
        least, _ = _bounds(sample, rows, likely[i][rows], queries.tails[i], queries.margins[i])
        found[i] = floor(least, enough)
    return found


@compiled
def _find(copy: Copy, queries: Turned, wanted: Floats, near: Near, read: Offsets) -> None:
    """Writes into `near` the rows whose heads leave it possible to score what is `wanted` (q,), so many as `read[:, 0]` says then."""
    sums = np.empty((len(queries.heads), ROWS), np.float32)
    read[:] = 0
    for block in range(len(copy.heads)):
        _score(copy, block, queries.heads, sums)
        _reachable(copy.sizes, block, sums, queries.margins, wanted, near, read)


@compiled
def _reachable(sizes: Floats, block: int, scores: Floats, margins: Floats, wanted: Floats, near: Near, read: Offsets) -> None:
    """Adds a block's rows to what is `near`.

    Few are: all are flagged side by side, STRETCH flags are passed over as one number, and what is left is written without a
    branch, which would be guessed wrong too often.
    """
    begin = block * ROWS
    steps, lengths, flags = sizes[0, begin : begin + ROWS], sizes[2, begin : begin + ROWS], np.zeros(ROWS, np.uint8)
    stretches = flags.view(np.uint64)
    for i in range(len(wanted)):
        own, error, length = scores[i], margins[i, 0], margins[i, 2]
        least, count = np.float32(wanted[i] - margins[i, 3]), read[i, 0]
        for row in range(steps.size):
            flags[row] = own[row] + error * steps[row] + length * lengths[row] >= least
        for stretch in range(ROWS // STRETCH):
            if stretches[stretch]:
                for row in range(stretch * STRETCH, (stretch + 1) * STRETCH):
                    near.rows[i, count], near.likely[i, count] = begin + row, own[row]
                    count += flags[row]
        read[i, 0] = count


@compiled
def _sift(copy: Copy, queries: Turned, i: int, near: Near, read: Offsets, wanted: float, n: int) -> float:
    """Leaves of a query's `near` rows those whose tails leave it possible too, so many as `read[1]` says then. Returns what at
    least `n` rows reach: where it is below what was `wanted`, rows may be missing."""
    rows = near.rows[i, : read[0]]
    least, most = _bounds(copy, rows, near.likely[i], queries.tails[i], queries.margins[i])
    sure = least[least >= wanted]
    nth_best, count = floor(sure if sure.size > n else least, n), 0
    enough = np.float32(nth_best - queries.margins[i, 3])
    for place in range(rows.size):
        rows[count] = rows[place]
        count += int(most[place] >= enough)
    read[1] = count
    return nth_best


@compiled
def _bounds(copy: Copy, rows: Ints, likely: Floats, tail: Floats, margins: Floats) -> tuple[Floats, Floats]:
    """(k,) the least and the most that each of `rows` (k,) may score, by head and tail."""
    least, most = np.empty(rows.size, np.float32), np.empty(rows.size, np.float32)
    head_error, tail_error = margins[0], margins[1]
    for place in range(rows.size):
        row, summed = rows[place], np.float32(0)
        for column in range(tail.size):
            summed += tail[column] * copy.tails[row, column]
        score = likely[place] + summed * copy.sizes[1, row]
        error = head_error * copy.sizes[0, row] + tail_error * copy.sizes[1, row]
        least[place], most[place] = score - error, score + error
    return least, most


@compiled
def _score(copy: Copy, block: int, queries: Floats, scores: Floats) -> None:
    """Into `scores` (places, ROWS) what the heads of a block alone score."""
    scores[:] = 0
    if len(queries) == TOGETHER:
        _add_together(copy.heads[block], queries, scores)
    else:
        _add(copy.heads[block], queries[0], scores[0])
    steps = copy.sizes[0, block * ROWS : (block + 1) * ROWS]
    for i in range(len(queries)):
        for row in range(steps.size):
            scores[i, row] *= steps[row]


@compiled
def _add(heads: Codes, query: Floats, sums: Floats) -> None:
    """To `sums` (ROWS,) what a block's `heads` (head, ROWS) score, in their steps."""
    for first in range(0, query.size, GROUP):
        a, b, c, d = _group(query, first)
        codes = heads[first : first + GROUP]
        for row in range(ROWS):
            sums[row] += a * codes[0, row] + b * codes[1, row] + c * codes[2, row] + d * codes[3, row]


@compiled
def _add_together(heads: Codes, queries: Floats, sums: Floats) -> None:
    """As `_add` to `sums` (TOGETHER, ROWS): what is read and made a float once serves all."""
    for first in range(0, queries.shape[1], GROUP):
        (a0, b0, c0, d0), (a1, b1, c1, d1) = _group(queries[0], first), _group(queries[1], first)
        (a2, b2, c2, d2), (a3, b3, c3, d3) = _group(queries[2], first), _group(queries[3], first)
        codes = heads[first : first + GROUP]
        for row in range(ROWS):
            a, b, c, d = np.float32(codes[0, row]), np.float32(codes[1, row]), np.float32(codes[2, row]), np.float32(codes[3, row])
            sums[0, row] += a0 * a + b0 * b + c0 * c + d0 * d
            sums[1, row] += a1 * a + b1 * b + c1 * c + d1 * d
            sums[2, row] += a2 * a + b2 * b + c2 * c + d2 * d
            sums[3, row] += a3 * a + b3 * b + c3 * c + d3 * d


@compiled
def _group(query: Floats, first: int) -> tuple[float, float, float, float]:
    return query[first], query[first + 1], query[first + 2], query[first + 3]


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


@compiled
def _length(vector: Floats) -> float:
    return float(np.sqrt((vector * vector).sum()))


@compiled
def best(tracks: Ints, scores: Floats, n: int) -> tuple[Ints, Floats]:
    """The best `n` of `tracks` (m,) by `scores` (m,): descending, ties by ascending track index; `n` may exceed m."""
    keys = _keys(tracks, scores, floor(scores, n))
    keys.sort()
    return _opened(keys[:n])


@compiled
def floor(scores: Floats, n: int) -> float:
    """What at least `n` of `scores` (m,) reach, and seldom more; minus infinity where there are no more than `n`."""
    if scores.size <= n:
        return -np.inf
    bits = scores.view(np.int32)
    counts = np.zeros(1 << LEVEL, np.int64)
    for i in range(bits.size):
        counts[(_ordered(bits[i]) >> (2 * LEVEL - 1)) + (1 << (LEVEL - 1))] += 1
    high, above = _level(counts, n)
    counts[:] = 0
    for i in range(bits.size):
        key = _ordered(bits[i])
        if (key >> (2 * LEVEL - 1)) + (1 << (LEVEL - 1)) == high:
            counts[(key >> (LEVEL - 1)) & ((1 << LEVEL) - 1)] += 1
    low, _ = _level(counts, n - above)
    found = _scores_of(np.array([((high - (1 << (LEVEL - 1))) << (2 * LEVEL - 1)) | (low << (LEVEL - 1))]))[0]
    return -np.inf if np.isnan(found) else found


@compiled
def _level(counts: npt.NDArray[np.int64], n: int) -> tuple[int, int]:
    """The highest level that `n` are at or above, and how many are above it."""
    level, above = counts.size - 1, 0
    while above + counts[level] < n:
        above += counts[level]
        level -= 1
    return level, above


@compiled
def _keys(tracks: Ints, scores: Floats, least: float) -> npt.NDArray[np.int64]:
    """A whole number for each of the `tracks` that scores `least` or more; they ascend as scores descend, then by track."""
    bits, keys, count = scores.view(np.int32), np.empty(scores.size, np.int64), 0
    for i in range(scores.size):
        if scores[i] >= least:
            order = _ordered(bits[i]) if scores[i] != 0 else 0  # -0.0 is 0.0
            keys[count] = (~order << 32) | tracks[i]
            count += 1
    return keys[:count]


@compiled
def _opened(keys: npt.NDArray[np.int64]) -> tuple[Ints, Floats]:
    """The tracks and the scores that `_keys` were made of."""
    return (keys & 0xFFFFFFFF).astype(np.int32), _scores_of(~(keys >> 32))


@compiled
def _ordered(bits: int) -> int:
    """The bits of a float as a whole number that has the same order as the floats."""
    return int(np.int64(bits) ^ ((np.int64(bits) >> 31) & ALL_BITS))


@compiled
def _scores_of(ordered: npt.NDArray[np.int64]) -> Floats:
    """The floats of which `_ordered` made these."""
    return (ordered ^ ((ordered >> 31) & ALL_BITS)).astype(np.int32).view(np.float32)


@compiled
def write(tracks: Ints, scores: Floats, excluded: Ints, to_tracks: Ints, to_scores: Floats) -> None:
    """The first of `tracks` that are not `excluded` (e,), ascending, as many as there is room for."""
    count = 0
    for i in range(tracks.size):
        if count == to_tracks.size:
            break
        place = np.searchsorted(excluded, tracks[i])
        if place == excluded.size or excluded[place] != tracks[i]:
            to_tracks[count], to_scores[count] = tracks[i], scores[i]
            count += 1
