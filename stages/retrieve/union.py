"""The union of the candidates of all sources, with provenance.

Input: one Retrieved per source. Output: Candidates: each track once per query, with its rank and score from each source that
proposed it. Knows no source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from features.domain import Candidates, Floats, Ints, Offsets, Retrieved
from features.jit import compiled
from features.ragged import offsets_of

DIGIT = 11
"""Bits of a track index that one pass of the sort looks at."""
DIGITS = (1 << DIGIT) - 1


def unite(retrieved: Mapping[str, Retrieved]) -> Candidates:
    """Sources may propose different numbers of tracks; all must answer the same queries."""
    results = list(retrieved.values())
    proposed = np.concatenate([result.tracks for result in results], axis=1)  # (q, proposals of all sources)
    said = np.concatenate([result.scores for result in results], axis=1)
    starts = offsets_of([result.tracks.shape[1] for result in results])
    vectors = {source: result.query_vectors for source, result in retrieved.items() if result.query_vectors is not None}
    tracks, offsets, ranks, scores = _unite(proposed, said, starts)
    return Candidates(tracks, offsets, tuple(retrieved), ranks, scores, vectors)


@compiled
def _unite(proposed: Ints, said: Floats, starts: Offsets) -> tuple[Ints, Offsets, Ints, Floats]:
    keys = np.empty(proposed.shape, np.int64)
    counts = np.empty(len(proposed), np.int64)
    offsets = np.zeros(len(proposed) + 1, np.int64)
    for i in range(len(proposed)):
        counts[i] = _sort(proposed[i], keys[i])
        offsets[i + 1] = offsets[i] + _different(keys[i, : counts[i]])
    tracks = np.empty(offsets[-1], np.int32)
    ranks = np.zeros((len(starts) - 1, len(tracks)), np.int32)
    scores = np.full(ranks.shape, np.float32(np.nan))
    source_of = np.empty(proposed.shape[1], np.int32)
    for source in range(len(ranks)):
        source_of[starts[source] : starts[source + 1]] = source
    for i in range(len(proposed)):
        row, last = offsets[i] - 1, -1
        for key in keys[i, : counts[i]]:
            track, place = key >> 32, key & 0xFFFFFFFF
            row += track != last
            last = track
            source = source_of[place]
            tracks[row] = track
            ranks[source, row] = place - starts[source] + 1
            scores[source, row] = said[i, place]
    return tracks, offsets, ranks, scores


@compiled
def _sort(tracks: Ints, keys: Offsets) -> int:
    """Writes (track, place) of each of `tracks` but padding into `keys`, in that order, one digit of the track after the
    other from the last (radix sort); how many they are."""
    count, largest = 0, 0
    for place in range(len(tracks)):
        if tracks[place] >= 0:
            keys[count] = (np.int64(tracks[place]) << 32) | place
            largest = max(largest, tracks[place])
            count += 1
    passed = np.empty(count, np.int64)
    shift = 32
    while largest:
        after = np.zeros((1 << DIGIT) + 1, np.int64)
        for key in keys[:count]:
            after[((key >> shift) & DIGITS) + 1] += 1
        after = np.cumsum(after)
        for key in keys[:count]:
            digit = (key >> shift) & DIGITS
            passed[after[digit]] = key
            after[digit] += 1
        keys[:count] = passed
        shift += DIGIT
        largest >>= DIGIT
    return count


@compiled
def _different(keys: Offsets) -> int:
    """Tracks in sorted `keys`."""
    count, last = 0, -1
    for key in keys:
        count += (key >> 32) != last
        last = key >> 32
    return count


def each(retrieved: Mapping[str, Retrieved]) -> Iterator[dict[str, Retrieved]]:
    """What is proposed for each query alone."""
    for i in range(len(next(iter(retrieved.values())).tracks)):
        yield {source: result.part(i, i + 1) for source, result in retrieved.items()}


def join(parts: Sequence[Candidates]) -> Candidates:
    """`parts` (at least one) of the same sources, one after the other."""
    first, *others = parts
    if not others:
        return first
    return Candidates(
        np.concatenate([part.tracks for part in parts]),
        offsets_of(np.concatenate([part.counts() for part in parts])),
        first.sources,
        np.concatenate([part.ranks for part in parts], axis=1),
        np.concatenate([part.scores for part in parts], axis=1),
        {source: np.concatenate([part.query_vectors[source] for part in parts]) for source in first.query_vectors},
    )


def cut(candidates: Candidates, scores: Floats, most: int) -> Candidates:
    """At most the `most` best candidates of each query by `scores` (num_candidates,), still in ascending track index."""
    if not (candidates.counts() > most).any():
        return candidates
    spans = zip(candidates.offsets[:-1], candidates.offsets[1:], strict=True)
    kept = np.concatenate([start + _best_of(scores[start:stop], most) for start, stop in spans])
    return Candidates(
        candidates.tracks[kept],
        offsets_of(np.minimum(candidates.counts(), most)),
        candidates.sources,
        candidates.ranks.take(kept, axis=1),
        candidates.scores.take(kept, axis=1),
        candidates.query_vectors,
    )


def _best_of(scores: Floats, most: int) -> np.ndarray:
    """The places of the `most` best, ascending; of those that are as good as the last of them, the first."""
    if len(scores) <= most:
        return np.arange(len(scores))
    least = np.partition(scores, -most)[-most]
    kept = scores > least
    kept[np.flatnonzero(scores == least)[: most - kept.sum()]] = True
    return np.flatnonzero(kept)
