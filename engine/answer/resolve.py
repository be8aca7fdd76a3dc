"""From outside ids and titles to a query of track indices.

Input: track ids, a playlist id, a title as a person typed them, and a model's Names. Output: a Query, and the track ids that
the model does not know. The HTTP service, the command line and `engine.load_model` all resolve through here. Independent of HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.model import Names
from features.domain import NO_TRACK, Ints, Query, SegueError


class UnknownPlaylist(SegueError):
    """A playlist_id that the model was not trained with."""


class UnknownTrack(SegueError):
    """A track_id that the model does not know, where a known one is needed."""


@dataclass(frozen=True)
class ResolvedQuery:
    """A query, and the given track ids that the model does not know, each once, as they were typed."""

    query: Query
    unknown_tracks: tuple[str, ...]


def resolve(
    names: Names,
    tracks: Sequence[str] = (),
    playlist_id: str | None = None,
    title: str | None = None,
    exclude: Sequence[str] = (),
) -> ResolvedQuery:
    """The known playlist's tracks come first, then `tracks`; repeats are dropped. Its title is used where none is given.

    An unknown playlist is an UnknownPlaylist; unknown tracks are listed in the result. An unknown id in `exclude` has no effect.
    """
    known_tracks, known_title = _playlist(names, playlist_id)
    indices = names.vocabulary.index_of(tracks)
    seeds = _without_repeats(np.concatenate([known_tracks, indices[indices != NO_TRACK]]))
    excluded = names.vocabulary.index_of(exclude)
    query = Query(seeds, known_title if title is None else title, _without_repeats(excluded[excluded != NO_TRACK]))
    unknown = (track_id for track_id, index in zip(tracks, indices, strict=True) if index == NO_TRACK)
    return ResolvedQuery(query, tuple(dict.fromkeys(unknown)))


def _playlist(names: Names, playlist_id: str | None) -> tuple[Ints, str]:
    if playlist_id is None:
        return np.empty(0, np.int32), ""
    found = names.playlists.find(playlist_id)
    if found is None:
        raise UnknownPlaylist(f"playlist_id: expected one of the {len(names.playlists.ids)} known playlists, found {playlist_id!r}")
    return found


def _without_repeats(tracks: Ints) -> Ints:
    """In the order of first appearance."""
    return np.fromiter(dict.fromkeys(tracks.tolist()), np.int32)


def resolve_track(names: Names, track_id: str) -> int:
    """The index of one track; an unknown id is an UnknownTrack."""
    index = int(names.vocabulary.index_of([track_id])[0])
    if index == NO_TRACK:
        raise UnknownTrack(f"track_id: expected one of the {len(names.vocabulary)} known tracks, found {track_id!r}")
    return index
