"""Data types shared by every module: queries, retrieved tracks, candidates, rankings and relevance judgements (qrels).

Every type is a batch: ragged or padded numpy arrays over `q` queries, so that one call serves a whole
micro-batch and the arrays travel between processes without objects. Ids are dense int32 track indices
(`features.vocabulary` turns them into outside strings). Knows no file, no model and no index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from features.ragged import Offsets as Offsets
from features.ragged import Ragged

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

NO_TRACK = -1
"""Pads a row that has fewer tracks than columns."""
MAX_ANSWER = 500
"""Tracks in the longest answer: the largest k of a request, and the length of the lists that are evaluated."""


class SegueError(Exception):
    """Something a person can mend: one line that says what is wrong, what was expected and what was found."""


def counted(number: int, noun: str) -> str:
    """`1 query`, `2,000 queries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


class TrackIds(Protocol):
    """What knows the outside ids of tracks: a `features.vocabulary.Vocabulary`."""

    def ids(self, indices: Ints, /) -> list[str]: ...


def _no_tracks() -> Ints:
    return np.empty(0, np.int32)


@dataclass(frozen=True)
class Query:
    """One question: the tracks so far, perhaps a title, and what must not come back."""

    seeds: Ints = field(default_factory=_no_tracks)
    """(s,) seed tracks in playlist order, without repeats."""
    title: str = ""
    exclude: Ints = field(default_factory=_no_tracks)
    """Tracks that must not be recommended; the seeds are always excluded besides."""

    def __repr__(self) -> str:
        return f"Query({counted(len(self.seeds), 'seed')}, title {self.title!r}, {len(self.exclude):,} excluded)"


@dataclass(frozen=True)
class Queries:
    """A batch of `q` queries: query `i` has the seeds `seeds.row(i)`, the title `titles[i]` and excludes `exclude.row(i)`."""

    seeds: Ragged[np.int32]
    titles: tuple[str, ...]
    exclude: Ragged[np.int32]

    @classmethod
    def of(cls, queries: Query | Queries | Iterable[Query]) -> Queries:
        """A batch of one query, of many, or the batch that it already is; SegueError for anything else."""
        if isinstance(queries, Queries):
            return queries
        rows = [queries] if isinstance(queries, Query) else _all_queries(queries)
        return cls(
            seeds=Ragged.of(query.seeds for query in rows),
            titles=tuple(query.title for query in rows),
            exclude=Ragged.of(query.exclude for query in rows),
        )

    def __len__(self) -> int:
        return len(self.titles)

    def __repr__(self) -> str:
        return f"Queries({counted(len(self), 'query')}, {counted(len(self.seeds.values), 'seed')})"

    def __getitem__(self, i: int) -> Query:
        return Query(self.seeds.row(i), self.titles[i], self.exclude.row(i))

    def seeds_of(self, i: int) -> Ints:
        return self.seeds.row(i)

    def seed_counts(self) -> Offsets:
        """(q,)"""
        return self.seeds.lengths()

    def excluded(self, i: int) -> Ints:
        """Every track query `i` must not be answered with: its seeds and its own exclusions."""
        return np.concatenate([self.seeds.row(i), self.exclude.row(i)])

    def part(self, start: int, stop: int) -> Queries:
        """The queries from `start` to before `stop` as a batch of their own, without a copy."""
        return Queries(self.seeds.part(start, stop), self.titles[start:stop], self.exclude.part(start, stop))


def _all_queries(queries: Iterable[Query]) -> list[Query]:
    rows = [queries] if isinstance(queries, str) or not isinstance(queries, Iterable) else list(queries)
    wrong = [row for row in rows if not isinstance(row, Query)]
    if wrong:
        raise SegueError(f"queries: expected Query objects, found {type(wrong[0]).__name__}. Make one with `dataset.query(...)`")
    return rows


@dataclass(frozen=True)
class Retrieved:
    """What one retriever proposes: `(q, n)` tracks, best first, padded with NO_TRACK where it has no more.

    Equal scores are ordered by track index. Retrievers with a vector space add the query vectors they searched
    with, so that the ranker can measure every candidate of the union in that space.
    """

    tracks: Ints
    scores: Floats
    query_vectors: Floats | None = None
    """(q, dim)"""

    def __repr__(self) -> str:
        return f"Retrieved({_shape(self.tracks)})"

    def part(self, start: int, stop: int) -> Retrieved:
        """What is proposed for the queries from `start` to before `stop`."""
        return self.take(slice(start, stop))

    def take(self, rows: slice | Sequence[int]) -> Retrieved:
        """What is proposed for the queries `rows`, in that order."""
        vectors = None if self.query_vectors is None else self.query_vectors[rows]
        return Retrieved(self.tracks[rows], self.scores[rows], vectors)

    def named(self, vocabulary: TrackIds) -> list[Any]:
        """[(track_id, score), …] of one query, best first; of several queries a list of such lists. Padding is skipped."""
        return _named(self.tracks, self.scores, vocabulary)


@dataclass(frozen=True)
class Candidates:
    """The union of what the sources proposed, and for each candidate which source proposed it, at which rank, with which score.

    The candidates of query `i` are at `offsets[i]:offsets[i + 1]` of every array, in ascending track index.
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
        """How many queries."""
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        counts = f"{counted(len(self), 'query')}, {counted(len(self.tracks), 'candidate')}"
        return f"Candidates({counts} of {', '.join(self.sources) or 'no source'})"

    def counts(self) -> Offsets:
        """(q,)"""
        return np.diff(self.offsets)

    def query_of(self) -> Offsets:
        """(len(tracks),) the query each candidate belongs to."""
        return np.repeat(np.arange(len(self)), self.counts())


@dataclass(frozen=True)
class Ranking:
    """The answer: `(q, k)` tracks, best first, padded with NO_TRACK; scores compare within one query only."""

    tracks: Ints
    scores: Floats

    def __repr__(self) -> str:
        return f"Ranking({_shape(self.tracks)})"

    def named(self, vocabulary: TrackIds) -> list[Any]:
        """[(track_id, score), …] of one query, best first; of several queries a list of such lists. Padding is skipped."""
        return _named(self.tracks, self.scores, vocabulary)

    @classmethod
    def join(cls, rankings: Sequence[Ranking]) -> Ranking:
        """`rankings` (at least one) of the same k, one after the other."""
        return cls(np.concatenate([one.tracks for one in rankings]), np.concatenate([one.scores for one in rankings]))


@dataclass(frozen=True)
class Qrels:
    """What was right: the held-out tracks of `q` queries."""

    relevant: Ragged[np.int32]
    """Row i belongs to query i."""

    @classmethod
    def of(cls, relevant: Iterable[Ints]) -> Qrels:
        return cls(Ragged.of(relevant))

    def __len__(self) -> int:
        return len(self.relevant)

    def __repr__(self) -> str:
        return f"Qrels({counted(len(self), 'query')}, {counted(len(self.relevant.values), 'relevant track')})"

    def of_query(self, i: int) -> Ints:
        return self.relevant.row(i)

    def part(self, start: int, stop: int) -> Qrels:
        """The qrels of the queries from `start` to before `stop`."""
        return Qrels(self.relevant.part(start, stop))


def _named(tracks: Ints, scores: Floats, vocabulary: TrackIds) -> list[Any]:
    found = [row != NO_TRACK for row in tracks]
    rows = [
        list(zip(vocabulary.ids(row[known]), of_row[known].tolist(), strict=True))
        for row, of_row, known in zip(tracks, scores, found, strict=True)
    ]
    return rows[0] if len(rows) == 1 else rows


def _shape(tracks: Ints) -> str:
    return f"{counted(tracks.shape[0], 'query')}, up to {counted(tracks.shape[1], 'track')} each"
