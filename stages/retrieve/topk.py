"""The best n of many scores: never an excluded track, best first, equal scores by track index.

Input: dense or sparse scores of a batch of queries. Output: Retrieved. Knows no model.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from features.domain import NO_TRACK, Floats, Ints, Queries, Retrieved


def empty(num_queries: int, n: int) -> Retrieved:
    """Room for `n` proposals a query, all still NO_TRACK."""
    return Retrieved(np.full((num_queries, n), NO_TRACK, np.int32), np.full((num_queries, n), -np.inf, np.float32))


def best(tracks: Ints, scores: Floats, n: int) -> tuple[Ints, Floats]:
    """The best `n` of `tracks` (m,) by `scores` (m,): descending, ties by ascending track index; `n` may exceed m."""
    if len(scores) > n:
        threshold = np.partition(scores, len(scores) - n)[len(scores) - n]
        kept = np.flatnonzero(scores >= threshold)
        tracks, scores = tracks[kept], scores[kept]
    order = np.lexsort((tracks, -scores))[:n]
    return tracks[order].astype(np.int32), scores[order].astype(np.float32)


def top_of_sparse(scores: sp.csr_matrix, queries: Queries, n: int) -> Retrieved:
    """The best `n` stored entries of each row of `scores` (q, num_tracks)."""
    result = empty(len(queries), n)
    for i in range(len(queries)):
        row = slice(scores.indptr[i], scores.indptr[i + 1])
        put(result, i, scores.indices[row], scores.data[row], queries.excluded(i))
    return result


def top_of_order(order: Ints, scores: Floats, queries: Queries, n: int) -> Retrieved:
    """The first `n` of one and the same `order` (m,) for every query, with the `scores` (m,) that made it."""
    result = empty(len(queries), n)
    for i in range(len(queries)):
        excluded = queries.excluded(i)
        head = slice(0, n + len(excluded))
        put(result, i, order[head], scores[head], excluded)
    return result


def put(result: Retrieved, i: int, tracks: Ints, scores: Floats, excluded: Ints) -> None:
    """Writes the best of `tracks` that are not `excluded` into row `i`."""
    if len(excluded):
        allowed = ~np.isin(tracks, excluded)
        tracks, scores = tracks[allowed], scores[allowed]
    tracks, scores = best(tracks, scores, result.tracks.shape[1])
    result.tracks[i, : len(tracks)] = tracks
    result.scores[i, : len(tracks)] = scores
