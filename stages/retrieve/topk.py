"""The best n of many scores: never an excluded track, best first, equal scores by track index.

Input: the scores of some tracks. Output: the best of them, or a row of Retrieved. A score is read as the whole number its bits make,
which has the same order: the best begin at one of 2^22 levels, and only those from there on are sorted. The compiled
loops are in `search_kernels`. Knows no model.
"""

from __future__ import annotations

import numpy as np

from features.domain import NO_TRACK, Floats, Ints, Queries, Retrieved
from stages.retrieve import search_kernels


def empty(num_queries: int, n: int) -> Retrieved:
    """Room for `n` proposals a query, all still NO_TRACK."""
    return Retrieved(np.full((num_queries, n), NO_TRACK, np.int32), np.full((num_queries, n), -np.inf, np.float32))


def best(tracks: Ints, scores: Floats, n: int) -> tuple[Ints, Floats]:
    """The best `n` of `tracks` (m,) by `scores` (m,): descending, ties by ascending track index; `n` may exceed m."""
    return search_kernels.best(tracks, scores, n)


def top_of_order(order: Ints, scores: Floats, queries: Queries, n: int) -> Retrieved:
    """The first `n` of one and the same `order` (m,) for every query, with the `scores` (m,) that made it."""
    result = empty(len(queries), n)
    for i in range(len(queries)):
        search_kernels.write(order, scores, np.sort(queries.excluded(i)), result.tracks[i], result.scores[i])
    return result


def put(result: Retrieved, i: int, tracks: Ints, scores: Floats, excluded: Ints) -> None:
    """Writes the best of `tracks` that are not `excluded` into row `i`."""
    tracks, scores = best(tracks, scores, result.tracks.shape[1] + len(excluded))
    search_kernels.write(tracks, scores, np.sort(excluded), result.tracks[i], result.scores[i])
