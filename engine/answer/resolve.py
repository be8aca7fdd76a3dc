"""Between a person's words and the model's numbers: track ids to a query, an answer to rows with titles.

Input: ids and titles as they were typed, and a model's Names. Output: a Query with what was not known of it; and of an
answer one row a track. The server and the command line both speak through here. Knows neither HTTP nor Ray.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.model import Names
from engine.pipeline import Answer
from features.domain import NO_TRACK, Ints, Query, SegueError
from features.schema import ARTIST, TITLE


class UnknownPlaylist(SegueError):
    """A playlist_id the model was not trained with."""


class UnknownTrack(SegueError):
    """A track_id where one that is known is needed."""


@dataclass(frozen=True)
class ResolvedQuery:
    """A query, and the ids that were named and are not known, each once, as they were typed."""

    query: Query
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One track of an answer in words; title and artist are None where they are not known."""

    track: int
    track_id: str
    title: str | None
    artist: str | None
    score: float
    sources: dict[str, int]
    """The rank from 1 at which each source proposed it."""


def ask(
    names: Names,
    tracks: Sequence[str] = (),
    playlist_id: str | None = None,
    title: str | None = None,
    exclude: Sequence[str] = (),
) -> ResolvedQuery:
    """The known playlist's tracks come first, then `tracks`; repeats are dropped. Its title counts where none is given.

    An unknown playlist is an UnknownPlaylist; an unknown track is named in the result. An unknown exclusion has no effect.
    """
    known_tracks, known_title = _playlist(names, playlist_id)
    found = names.vocabulary.index_of(tracks)
    seeds = _once(np.concatenate([known_tracks, found[found != NO_TRACK]]))
    excluded = names.vocabulary.index_of(exclude)
    query = Query(seeds, known_title if title is None else title, _once(excluded[excluded != NO_TRACK]))
    unknown = (track_id for track_id, index in zip(tracks, found, strict=True) if index == NO_TRACK)
    return ResolvedQuery(query, tuple(dict.fromkeys(unknown)))


def _playlist(names: Names, playlist_id: str | None) -> tuple[Ints, str]:
    if playlist_id is None:
        return np.empty(0, np.int32), ""
    found = names.playlists.find(playlist_id)
    if found is None:
        raise UnknownPlaylist(f"playlist_id: expected one of the {len(names.playlists.ids)} known playlists, found {playlist_id!r}")
    return found


def _once(tracks: Ints) -> Ints:
    """Without repeats, in the order of first appearance."""
    return np.fromiter(dict.fromkeys(tracks.tolist()), np.int32)


def known_track(names: Names, track_id: str) -> int:
    """Its index; an unknown one is an UnknownTrack."""
    index = int(names.vocabulary.index_of([track_id])[0])
    if index == NO_TRACK:
        raise UnknownTrack(f"track_id: expected one of the {len(names.vocabulary)} known tracks, found {track_id!r}")
    return index


def rows(names: Names, answer: Answer, i: int = 0) -> list[Row]:
    """The tracks of query `i` of the answer, best first."""
    tracks = answer.ranking.tracks[i]
    count = int((tracks != NO_TRACK).sum())
    ranks = {source: of_source[i, :count].tolist() for source, of_source in answer.ranks.items()}
    scores = answer.ranking.scores[i, :count].tolist()
    return [
        Row(int(track), track_id, title, artist, scores[place], {source: rank[place] for source, rank in ranks.items() if rank[place]})
        for place, (track, (track_id, title, artist)) in enumerate(zip(tracks[:count], in_words(names, tracks[:count]), strict=True))
    ]


def in_words(names: Names, tracks: Ints) -> Iterator[tuple[str, str | None, str | None]]:
    """(track_id, title, artist) of each of `tracks`."""
    table = names.catalog.table
    titles, artists = table[TITLE], table[ARTIST]
    return ((track_id, titles[i], artists[i]) for track_id, i in zip(names.vocabulary.ids(tracks), tracks.tolist(), strict=True))
