"""The union of what the sources propose, with provenance.

Input: one Retrieved per source. Output: Candidates, each track once per query, remembering which sources proposed it,
at which rank and with which score. Knows no source.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from features.domain import NO_TRACK, Candidates, Floats, Ints, Retrieved
from stages.retrieve import topk


def unite(retrieved: Mapping[str, Retrieved]) -> Candidates:
    """Sources may propose different numbers of tracks; all must answer the same queries."""
    num_queries = len(next(iter(retrieved.values())).tracks)
    keys = {source: _keys(result.tracks) for source, result in retrieved.items()}
    union = np.unique(np.concatenate([key[key >= 0] for key in keys.values()]))
    ranks: dict[str, Ints] = {}
    scores: dict[str, Floats] = {}
    for source, result in retrieved.items():
        ranks[source], scores[source] = _provenance(union, keys[source], result)
    offsets = np.searchsorted(union >> 32, np.arange(num_queries + 1))
    vectors = {source: result.query_vectors for source, result in retrieved.items() if result.query_vectors is not None}
    return Candidates((union & 0xFFFFFFFF).astype(np.int32), offsets.astype(np.int64), ranks, scores, vectors)


def _keys(tracks: Ints) -> np.ndarray:
    """(q * n,) query and track in one int64 that sorts by query, then track; -1 for padding."""
    queries = np.arange(len(tracks), dtype=np.int64)[:, None] << 32
    return np.where(tracks == NO_TRACK, -1, queries | tracks).ravel()


def _provenance(union: np.ndarray, keys: np.ndarray, result: Retrieved) -> tuple[Ints, Floats]:
    proposed = np.flatnonzero(keys >= 0)
    place = np.searchsorted(union, keys[proposed])
    ranks = np.zeros(len(union), np.int32)
    ranks[place] = proposed % result.tracks.shape[1] + 1
    scores = np.full(len(union), np.nan, np.float32)
    scores[place] = result.scores.ravel()[proposed]
    return ranks, scores


def cut(candidates: Candidates, scores: Floats, most: int) -> Candidates:
    """At most the `most` best candidates of each query by `scores` (num_candidates,), still in ascending track index."""
    if not (candidates.counts() > most).any():
        return candidates
    kept = np.concatenate([_best_of(candidates, scores, i, most) for i in range(len(candidates))])
    return Candidates(
        candidates.tracks[kept],
        np.concatenate([[0], np.cumsum(np.minimum(candidates.counts(), most))]).astype(np.int64),
        {source: ranks[kept] for source, ranks in candidates.ranks.items()},
        {source: values[kept] for source, values in candidates.scores.items()},
        candidates.query_vectors,
    )


def _best_of(candidates: Candidates, scores: Floats, i: int, most: int) -> np.ndarray:
    start, stop = candidates.offsets[i], candidates.offsets[i + 1]
    places = np.arange(start, stop, dtype=np.int32)
    best, _ = topk.best(places, scores[start:stop], most)  # places ascend with the track index, so ties do too
    return np.sort(best)
