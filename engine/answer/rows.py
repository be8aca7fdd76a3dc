"""From track indices to rows with ids, titles and artists: what a person reads.

Input: a RankedAnswer or track indices, and a model's Names. Output: one row per track, best first. The HTTP service, the command
line and `engine.load_model` all answer with these rows. Independent of HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from engine.answer.ranking import Explanation, RankedAnswer
from engine.model import Names
from features.domain import Floats, Ints
from features.schema import ARTIST, TITLE


@dataclass(frozen=True)
class Track:
    """One known track; title and artist are None where they are not known."""

    track_id: str
    title: str | None
    artist: str | None

    def __str__(self) -> str:
        return f"{self.title or self.track_id}{f' by {self.artist}' if self.artist else ''}"


@dataclass(frozen=True)
class SimilarTrack(Track):
    """A track near another one."""

    score: float
    """Cosine, from -1 to 1."""

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.score:.3f})"


@dataclass(frozen=True)
class Reasons:
    """Why a track is in an answer."""

    features: Mapping[str, float]
    """What the most important pair features add to its score, the largest effect first."""
    similar_seeds: tuple[str, ...]
    """Ids of the seed tracks it is most similar to, the most similar first."""


@dataclass(frozen=True)
class RecommendedTrack(Track):
    """One track of an answer."""

    score: float
    """Higher is better; comparable within one answer only."""
    sources: Mapping[str, int] = field(repr=False)
    """The rank from 1 at which each source proposed the track."""
    why: Reasons | None = field(default=None, repr=False)
    """Where an explanation was asked for."""

    def __str__(self) -> str:
        ranks = ", ".join(f"{source} {rank}" for source, rank in self.sources.items())
        return f"{super().__str__()} ({self.score:.3f}; {ranks})"


def recommended_tracks(names: Names, ranked: RankedAnswer) -> list[RecommendedTrack]:
    """The tracks of an answer, best first."""
    ranks = {source: of_source.tolist() for source, of_source in ranked.ranks.items()}
    scores, reasons = ranked.scores.tolist(), _reasons(names, ranked.explanations)
    return [
        RecommendedTrack(
            track_id,
            title,
            artist,
            scores[place],
            {source: of_source[place] for source, of_source in ranks.items() if of_source[place]},
            reasons[place] if place < len(reasons) else None,
        )
        for place, (track_id, title, artist) in enumerate(_named(names, ranked.tracks))
    ]


def _reasons(names: Names, explanations: Sequence[Explanation]) -> list[Reasons]:
    ids = iter(names.vocabulary.ids([seed for why in explanations for seed in why.similar_seeds]))  # all at once, which is much faster
    return [Reasons(dict(why.features), tuple(islice(ids, len(why.similar_seeds)))) for why in explanations]


def similar_tracks(names: Names, tracks: Ints, cosines: Floats) -> list[SimilarTrack]:
    return [SimilarTrack(*named, score) for named, score in zip(_named(names, tracks), cosines.tolist(), strict=True)]


def tracks(names: Names, indices: Ints) -> list[Track]:
    return [Track(*named) for named in _named(names, indices)]


def _named(names: Names, indices: Ints) -> Iterator[tuple[str, str | None, str | None]]:
    """(track_id, title, artist) of each track."""
    table = names.catalog.table
    titles, artists = table[TITLE], table[ARTIST]
    return ((track_id, titles[i], artists[i]) for track_id, i in zip(names.vocabulary.ids(indices), indices.tolist(), strict=True))
