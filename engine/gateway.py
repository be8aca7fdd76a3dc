"""The gateway: answers requests in words. All that is neither HTTP nor a network.

Input: requests from `engine.api`, and a conductor that brings queries through the stages. Output: its answers, with
titles, what was not known and what did not answer. Holds the names of one model version. Knows no web framework, no Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from engine import api
from engine.artifact import Artifact, Manifest
from engine.calls import RankCall, fusion_only
from engine.conductor import OK, Conductor, Group, Item, Limits, Told
from engine.filters import Mask, allowed, fill
from engine.meter import Meter
from engine.model import Names, open_names
from engine.nearness import Nearness
from engine.requests import Asked, Row, ask, in_words, known_track, rows
from engine.search import Search
from engine.wants import Ranked, Want, nothing, pick
from features.domain import Query, SegueError

T = TypeVar("T")
POOL_FOR_VARIETY = 5
"""Tracks ranked for each track of a varied answer, and at least LEAST_FOR_VARIETY."""
LEAST_FOR_VARIETY = 100


@dataclass(frozen=True)
class Gateway:
    """One model version in words, and the way to its stages."""

    manifest: Manifest
    names: Names
    conductor: Conductor
    nearness: Nearness
    search_index: Search
    pool: ThreadPoolExecutor
    """Work of milliseconds goes here, so that the event loop stays free."""

    @classmethod
    def open(cls, artifact: Artifact, groups: Sequence[Group], ranker: RankCall, limits: Limits, meter: Meter | None = None) -> Gateway:
        """`groups` hold every source of the artifact."""
        names = open_names(artifact)
        names.vocabulary.index_of(["warm"])  # makes its lookup, a second for millions of tracks
        conductor = Conductor(artifact.manifest.version, groups, ranker, fusion_only(artifact), limits, meter)
        return cls(artifact.manifest, names, conductor, Nearness.open(artifact), Search(names), ThreadPoolExecutor(1, "gateway"))

    @property
    def version(self) -> str:
        return self.manifest.version

    async def warm(self) -> None:
        """Asks a first question through every stage; one that does not answer is a SegueError."""
        answer = await self.recommend(api.Recommend(title="warm", k=1), "warm")
        if answer.degraded:
            raise SegueError(f"model {self.version}: expected every stage to answer, found none from {', '.join(answer.degraded)}")

    async def recommend(self, request: api.Recommend, request_id: str) -> api.Recommended:
        asked = ask(self.names, request.tracks, request.playlist_id, request.title, request.exclude)
        mask = await self._mask(request.filters)
        told = await self.conductor.ask(Item(asked.query, _want(request), mask))
        if request.diversity:
            told = replace(told, ranked=await self._in_thread(lambda: self._varied(told.ranked, request)))
        if request.filters is not None or told.degraded:
            told = replace(told, ranked=self._full(told.ranked, asked.query, mask))
        return self._told(asked, told, request_id)

    async def rank(self, request: api.Rank, request_id: str) -> api.Recommended:
        """Candidates that are not known are named beside the unknown tracks."""
        asked, given = ask(self.names, request.tracks, title=request.title), ask(self.names, request.candidates)
        among = given.query.seeds
        unknown = tuple(dict.fromkeys(asked.unknown + given.unknown))
        told = await self.conductor.ask(Item(asked.query, Want(len(among), len(among), among))) if len(among) else Told(Ranked(nothing(0)))
        return self._told(replace(asked, unknown=unknown), told, request_id)

    async def similar(self, request: api.Similar, request_id: str) -> api.Nearest:
        track = known_track(self.names, request.track_id)
        space, tracks, cosines = await self._in_thread(lambda: self.nearness.nearest(track, request.k))
        words = zip(in_words(self.names, tracks), cosines.tolist(), strict=True)
        near = [api.NearTrack(track_id=track_id, title=title, artist=artist, score=score) for (track_id, title, artist), score in words]
        return api.Nearest(tracks=near, space=space, model=self._version(), request_id=request_id)

    async def search(self, words: str, limit: int) -> api.Found:
        tracks = await self._in_thread(lambda: self.search_index.find(words, limit))
        found = [api.Track(track_id=track_id, title=title, artist=artist) for track_id, title, artist in in_words(self.names, tracks)]
        return api.Found(tracks=found)

    async def ready(self) -> api.Ready:
        stages = await self.conductor.ready()
        return api.Ready(ready=all(said == OK for said in stages.values()), stages=stages, model=self._version())

    async def _mask(self, filters: api.Filters | None) -> Mask | None:
        if filters is None or filters == api.Filters():
            return None
        return await self._in_thread(lambda: allowed(self.names.catalog, filters))

    def _varied(self, ranked: Ranked, request: api.Recommend) -> Ranked:
        tracks, scores = ranked.answer.ranking.tracks[0], ranked.answer.ranking.scores[0]
        count = ranked.count
        places = self.nearness.varied(tracks[:count], scores[:count], request.k, request.diversity)
        return pick(ranked, places, request.k)

    def _full(self, ranked: Ranked, query: Query, mask: Mask | None) -> Ranked:
        """As many tracks as were asked for, wherever there are so many; the sources proposed without the mask."""
        return replace(ranked, answer=fill(ranked.answer, query, mask, len(self.names.vocabulary)))

    def _version(self) -> api.ModelVersion:
        return api.ModelVersion(version=self.version)

    def _told(self, asked: Asked, told: Told, request_id: str) -> api.Recommended:
        """Not validated a second time: 500 tracks would cost more than their JSON."""
        return api.Recommended.model_construct(
            tracks=[self._track(row, told.ranked, place) for place, row in enumerate(rows(self.names, told.ranked.answer))],
            unknown_tracks=list(asked.unknown),
            degraded=list(told.degraded),
            model=self._version(),
            request_id=request_id,
        )

    def _track(self, row: Row, ranked: Ranked, place: int) -> api.RankedTrack:
        why = self._why(ranked, place) if place < len(ranked.whys) else None
        return api.RankedTrack.model_construct(
            track_id=row.track_id, title=row.title, artist=row.artist, score=row.score, sources=row.sources, why=why
        )

    def _why(self, ranked: Ranked, place: int) -> api.Reason:
        why = ranked.whys[place]
        return api.Reason(features=dict(why.features), like=self.names.vocabulary.ids(why.like))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)


def _want(request: api.Recommend) -> Want:
    length = max(POOL_FOR_VARIETY * request.k, LEAST_FOR_VARIETY) if request.diversity else request.k
    return Want(request.k, length, explain=request.explain)
