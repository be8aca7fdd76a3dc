"""The nouns everybody speaks: what is asked, what is proposed, what is answered, what was right.

Every noun is a batch: ragged or padded numpy arrays over `q` queries, so that one call serves a whole
micro-batch and the arrays travel between processes without objects. Ids are dense int32 track indices
(`features.vocabulary` turns them into outside strings). Knows no file, no model and no index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Offsets = npt.NDArray[np.int64]

NO_TRACK = -1
"""Pads a row that has fewer tracks than columns."""
MAX_ANSWER = 500
"""Tracks in the longest answer: the largest k of a request, and the length of the lists that are evaluated."""


class SegueError(Exception):
    """Something a person can mend: one line that says what is wrong, what was expected and what was found."""


def _no_tracks() -> Ints:
    return np.empty(0, np.int32)


@dataclass(frozen=True)
class Query:
    """What one listener asks: the tracks so far, perhaps a title, and what must not come back."""

    seeds: Ints = field(default_factory=_no_tracks)
    """(s,) seed tracks in playlist order, without repeats."""
    title: str = ""
    exclude: Ints = field(default_factory=_no_tracks)
    """Tracks that must not be recommended; the seeds are always excluded besides."""


@dataclass(frozen=True)
class Queries:
    """A batch of `q` queries as ragged arrays: query `i` owns `seeds[offsets[i]:offsets[i + 1]]`."""

    seeds: Ints
    offsets: Offsets
    titles: tuple[str, ...]
    exclude: Ints
    exclude_offsets: Offsets

    @classmethod
    def of(cls, queries: Iterable[Query]) -> Queries:
        rows = list(queries)
        return cls(
            seeds=_concatenate([query.seeds for query in rows]),
            offsets=_offsets([len(query.seeds) for query in rows]),
            titles=tuple(query.title for query in rows),
            exclude=_concatenate([query.exclude for query in rows]),
            exclude_offsets=_offsets([len(query.exclude) for query in rows]),
        )

    def __len__(self) -> int:
        return len(self.titles)

    def __getitem__(self, i: int) -> Query:
        return Query(self.seeds_of(i), self.titles[i], self.exclude[self.exclude_offsets[i] : self.exclude_offsets[i + 1]])

    def seeds_of(self, i: int) -> Ints:
        return self.seeds[self.offsets[i] : self.offsets[i + 1]]

    def seed_counts(self) -> Offsets:
        return np.diff(self.offsets)

    def excluded(self, i: int) -> Ints:
        """Every track query `i` must not be answered with: its seeds and its own exclusions."""
        return np.concatenate([self.seeds_of(i), self.exclude[self.exclude_offsets[i] : self.exclude_offsets[i + 1]]])

    def part(self, start: int, stop: int) -> Queries:
        """The queries `start` to `stop` as a batch of their own."""
        return Queries.of(self[i] for i in range(start, min(stop, len(self))))


@dataclass(frozen=True)
class Retrieved:
    """What one source proposes: `(q, n)` tracks, best first, padded with NO_TRACK where it has no more.

    Equal scores are ordered by track index. Sources with a vector space add the query vectors they searched
    with, so that the ranker can measure every candidate of the union in that space.
    """

    tracks: Ints
    scores: Floats
    query_vectors: Floats | None = None

    def part(self, start: int, stop: int) -> Retrieved:
        """What is proposed for the queries `start` to `stop`."""
        vectors = None if self.query_vectors is None else self.query_vectors[start:stop]
        return Retrieved(self.tracks[start:stop], self.scores[start:stop], vectors)


@dataclass(frozen=True)
class Candidates:
    """The union of what the sources proposed, with provenance: which source, at which rank, with which score.

    Query `i` owns the slice `offsets[i]:offsets[i + 1]`, in ascending track index.
    """

    tracks: Ints
    offsets: Offsets
    sources: tuple[str, ...]
    ranks: Ints
    """(num_sources, num_candidates) 1 for a source's first proposal, 0 where it did not propose the track."""
    scores: Floats
    """(num_sources, num_candidates) NaN where the source did not propose the track."""
    query_vectors: Mapping[str, Floats]
    """Per source with a vector space: (q, dim)."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def counts(self) -> Offsets:
        return np.diff(self.offsets)

    def query_of(self) -> Offsets:
        """(len(tracks),) the query each candidate belongs to."""
        return np.repeat(np.arange(len(self)), self.counts())


@dataclass(frozen=True)
class Ranking:
    """The answer: `(q, k)` tracks, best first, padded with NO_TRACK; scores compare within one query only."""

    tracks: Ints
    scores: Floats

    @classmethod
    def join(cls, rankings: Sequence[Ranking]) -> Ranking:
        """`rankings` (at least one) of the same k, one after the other."""
        return cls(np.concatenate([one.tracks for one in rankings]), np.concatenate([one.scores for one in rankings]))


@dataclass(frozen=True)
class Qrels:
    """What was right: the held-out tracks of each query; query `i` owns `tracks[offsets[i]:offsets[i + 1]]`."""

    tracks: Ints
    offsets: Offsets

    @classmethod
    def of(cls, relevant: Sequence[Ints]) -> Qrels:
        return cls(_concatenate(list(relevant)), _offsets([len(tracks) for tracks in relevant]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of_query(self, i: int) -> Ints:
        return self.tracks[self.offsets[i] : self.offsets[i + 1]]

    def part(self, start: int, stop: int) -> Qrels:
        """The qrels of the queries `start` to `stop`."""
        return Qrels.of([self.of_query(i) for i in range(start, min(stop, len(self)))])


def _concatenate(parts: Sequence[Ints]) -> Ints:
    return np.concatenate(parts).astype(np.int32, copy=False) if parts else _no_tracks()


def _offsets(lengths: Sequence[int]) -> Offsets:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
