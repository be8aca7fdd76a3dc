"""The best n of many scores: never an excluded track, best first, equal scores by track index.

Input: the scores of some tracks. Output: the best of them, or a row of Retrieved. A score is read as the whole number its bits make,
which has the same order: the best begin at one of 2^22 levels, and only those from there on are sorted. Knows no model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.compiled import compiled
from features.domain import NO_TRACK, Floats, Ints, Queries, Retrieved

LEVEL = 11
"""Bits of a score looked at in one pass."""
ALL_BITS = 0x7FFFFFFF
"""A negative float's bits, but for the sign, count downwards."""


def empty(num_queries: int, n: int) -> Retrieved:
    """Room for `n` proposals a query, all still NO_TRACK."""
    return Retrieved(np.full((num_queries, n), NO_TRACK, np.int32), np.full((num_queries, n), -np.inf, np.float32))


def best(tracks: Ints, scores: Floats, n: int) -> tuple[Ints, Floats]:
    """The best `n` of `tracks` (m,) by `scores` (m,): descending, ties by ascending track index; `n` may exceed m."""
    keys = _keys(tracks, scores, floor(scores, n))
    keys.sort()
    return _opened(keys[:n])


def top_of_order(order: Ints, scores: Floats, queries: Queries, n: int) -> Retrieved:
    """The first `n` of one and the same `order` (m,) for every query, with the `scores` (m,) that made it."""
    result = empty(len(queries), n)
    for i in range(len(queries)):
        _write(order, scores, np.sort(queries.excluded(i)), result.tracks[i], result.scores[i])
    return result


def put(result: Retrieved, i: int, tracks: Ints, scores: Floats, excluded: Ints) -> None:
    """Writes the best of `tracks` that are not `excluded` into row `i`."""
    tracks, scores = best(tracks, scores, result.tracks.shape[1] + len(excluded))
    _write(tracks, scores, np.sort(excluded), result.tracks[i], result.scores[i])


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
def _write(tracks: Ints, scores: Floats, excluded: Ints, to_tracks: Ints, to_scores: Floats) -> None:
    """The first of `tracks` that are not `excluded` (e,), ascending, as many as there is room for."""
    count = 0
    for i in range(tracks.size):
        if count == to_tracks.size:
            break
        place = np.searchsorted(excluded, tracks[i])
        if place == excluded.size or excluded[place] != tracks[i]:
            to_tracks[count], to_scores[count] = tracks[i], scores[i]
            count += 1
