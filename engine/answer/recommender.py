"""Recommendations from Python: opens an artifact, and answers with rows.

Input: the path of an artifact; then track ids, a playlist id or a title. Output: rows of `engine.answer.rows`, best first.
`segue recommend --track` runs the same code. A wrong argument is a SegueError of one line. Independent of HTTP and of Ray.

    model = open_model("artifact")
    model.recommend(["spotify:track:…"], title="road trip", k=10)
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from engine.answer import rows
from engine.answer.ranking import RankOptions, rank_each
from engine.answer.resolve import ResolvedQuery, resolve, resolve_track
from engine.answer.rows import RecommendedTrack, SimilarTrack, Track
from engine.answer.similar import SimilarTracks
from engine.answer.track_search import TrackSearch
from engine.model import Model, load_model
from features.domain import MAX_ANSWER, Queries, SegueError

Row = TypeVar("Row", bound=Track)
MAX_SHOWN = 20
"""Rows that `repr` shows."""
TrackId = str | Track
"""A row of an earlier answer stands for its track."""


class Rows(tuple[Row, ...]):
    """Rows, best first; `repr` has a line for each."""

    __slots__ = ()

    def __repr__(self) -> str:
        lines = [f"{place:>3}. {row}" for place, row in enumerate(self[:MAX_SHOWN], start=1)]
        return "\n".join([*lines, *([f"… and {len(self) - MAX_SHOWN} more"] if len(self) > MAX_SHOWN else [])]) or "no tracks"


class Recommendations(Rows[RecommendedTrack]):
    """The tracks of one answer, and the given ids that the model does not know."""

    unknown_tracks: tuple[str, ...]

    def __new__(cls, tracks: Iterable[RecommendedTrack] = (), unknown_tracks: Iterable[str] = ()) -> Recommendations:
        answer = super().__new__(cls, tracks)
        answer.unknown_tracks = tuple(unknown_tracks)
        return answer

    def __repr__(self) -> str:
        return super().__repr__() + (f"\nunknown tracks: {', '.join(self.unknown_tracks)}" if self.unknown_tracks else "")


class Recommender:
    """A trained model that answers in this process."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __repr__(self) -> str:
        return f"Recommender(version {self.version}, {self.num_tracks:,} tracks, sources {', '.join(self.sources)})"

    @property
    def version(self) -> str:
        return self._model.artifact.manifest.version

    @property
    def num_tracks(self) -> int:
        return len(self._model.names.vocabulary)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the retrievers."""
        return tuple(self._model.pipeline.sources)

    def recommend(
        self,
        tracks: TrackId | Iterable[TrackId] = (),
        *,
        playlist_id: str | None = None,
        title: str = "",
        k: int = 10,
        exclude: TrackId | Iterable[TrackId] = (),
        explain: bool = False,
    ) -> Recommendations:
        """The best `k` tracks (1 to 500) that continue `tracks`, in the order they were played, or a known playlist, or a title.

        The answer contains neither the given tracks nor those of `exclude`. Ids that the model does not know are in its
        `unknown_tracks`; where it knows none of them and there is no title, that is a SegueError. Without any argument the answer
        is the most popular tracks. `explain`: every row says `why`.
        """
        k, seeds = _count("k", k), _ids("tracks", tracks)
        name, playlist = _text("title", title), None if playlist_id is None else _text("playlist_id", playlist_id)
        resolved = resolve(self._model.names, seeds, playlist, name or None, _ids("exclude", exclude))
        if resolved.unknown_tracks and not len(resolved.query.seeds) and not resolved.query.title.strip():
            found = ", ".join(resolved.unknown_tracks[:3])
            raise SegueError(f"tracks: expected at least one of the {self.num_tracks:,} known tracks, found {found}. Try search()")
        return recommend_tracks(self._model, resolved, k, explain)

    def similar(self, track_id: TrackId, k: int = 10) -> Rows[SimilarTrack]:
        """The nearest `k` tracks of one track by cosine; an unknown track is a SegueError."""
        k, (track,) = _count("k", k), _ids("track_id", (track_id,))
        _, tracks, cosines = self._similar_tracks.nearest(resolve_track(self._model.names, track), k)
        return Rows(rows.similar_tracks(self._model.names, tracks, cosines))

    def search(self, words: str, limit: int = 10) -> Rows[Track]:
        """The tracks whose title, artist or id contain every word, the most popular first."""
        found = self._track_search.find(_text("words", words), _count("limit", limit))
        return Rows(rows.tracks(self._model.names, found))

    @cached_property
    def _similar_tracks(self) -> SimilarTracks:
        return SimilarTracks.open(self._model.artifact)

    @cached_property
    def _track_search(self) -> TrackSearch:
        return TrackSearch(self._model.names)


def open_model(path: str | os.PathLike[str]) -> Recommender:
    """The model in the artifact at `path`, which `segue train` wrote. Every file is read once and compared with the manifest."""
    if not isinstance(path, str | os.PathLike):
        raise SegueError(f"open_model: expected the path of an artifact, found {path!r}")
    return Recommender(load_model(Path(path)))


def recommend_tracks(model: Model, resolved: ResolvedQuery, k: int, explain: bool = False) -> Recommendations:
    """The best `k` tracks for one resolved query, through both stages in this process."""
    queries = Queries.of([resolved.query])
    (ranked,) = rank_each(model.pipeline.second, queries, model.pipeline.retrieve(queries, k), [RankOptions(k, k, explain=explain)])
    return Recommendations(rows.recommended_tracks(model.names, ranked), resolved.unknown_tracks)


def _ids(name: str, given: object) -> list[str]:
    """Of one id, of one row, or of several of them."""
    ids = []
    for one in given if isinstance(given, Iterable) and not isinstance(given, str) else (given,):
        track_id = one.track_id if isinstance(one, Track) else one
        if not isinstance(track_id, str):
            raise SegueError(f"{name}: expected a track id such as 'spotify:track:2IO7yf562c1zLzpanal1DT' or a list of them, found {one!r}")
        ids.append(track_id)
    return ids


def _count(name: str, given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or not 1 <= given <= MAX_ANSWER:
        raise SegueError(f"{name}: expected a whole number from 1 to {MAX_ANSWER}, found {given!r}")
    return int(given)


def _text(name: str, given: object) -> str:
    if not isinstance(given, str):
        raise SegueError(f"{name}: expected text, found {given!r}")
    return given
