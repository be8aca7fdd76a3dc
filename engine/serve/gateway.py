"""The gateway: answers requests in words. All that is neither HTTP nor a network.

Input: requests from `engine.answer.api`, and a conductor that brings queries through the stages. Output: its answers, with
titles, what was not known and what did not answer. Holds the names of one model version. Knows no web framework, no Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from engine.answer import api
from engine.answer.filters import Mask, allowed, fill
from engine.answer.ranking import RankedAnswer, RankOptions, nothing, pick
from engine.answer.resolve import ResolvedQuery, Row, ask, in_words, known_track, rows
from engine.answer.similar import SimilarTracks
from engine.answer.track_search import TrackSearch
from engine.artifact import Artifact, Manifest
from engine.model import Names, open_names
from engine.serve.local_stages import RankerStage, fusion_only
from engine.serve.orchestrator import OK, Limits, Orchestrator, PendingQuery, SourceGroup, StageAnswer
from engine.serve.telemetry import Telemetry
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
    orchestrator: Orchestrator
    similar_tracks: SimilarTracks
    search_index: TrackSearch
    pool: ThreadPoolExecutor
    """Work of milliseconds goes here, so that the event loop stays free."""

    @classmethod
    def open(
        cls, artifact: Artifact, groups: Sequence[SourceGroup], ranker: RankerStage, limits: Limits, telemetry: Telemetry | None = None
    ) -> Gateway:
        """`groups` hold every source of the artifact."""
        names = open_names(artifact)
        names.vocabulary.index_of(["warm"])  # makes its lookup, a second for millions of tracks
        orchestrator = Orchestrator(artifact.manifest.version, groups, ranker, fusion_only(artifact), limits, telemetry)
        return cls(
            artifact.manifest, names, orchestrator, SimilarTracks.open(artifact), TrackSearch(names), ThreadPoolExecutor(1, "gateway")
        )

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
        told = await self.orchestrator.ask(PendingQuery(asked.query, _rank_options(request), mask))
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
        told = (
            await self.orchestrator.ask(PendingQuery(asked.query, RankOptions(len(among), len(among), among)))
            if len(among)
            else StageAnswer(RankedAnswer(nothing(0)))
        )
        return self._told(replace(asked, unknown=unknown), told, request_id)

    async def similar(self, request: api.Similar, request_id: str) -> api.Nearest:
        track = known_track(self.names, request.track_id)
        space, tracks, cosines = await self._in_thread(lambda: self.similar_tracks.nearest(track, request.k))
        words = zip(in_words(self.names, tracks), cosines.tolist(), strict=True)
        near = [api.NearTrack(track_id=track_id, title=title, artist=artist, score=score) for (track_id, title, artist), score in words]
        return api.Nearest(tracks=near, space=space, model=self._version(), request_id=request_id)

    async def search(self, words: str, limit: int) -> api.Found:
        tracks = await self._in_thread(lambda: self.search_index.find(words, limit))
        found = [api.Track(track_id=track_id, title=title, artist=artist) for track_id, title, artist in in_words(self.names, tracks)]
        return api.Found(tracks=found)

    async def ready(self) -> api.Ready:
        stages = await self.orchestrator.ready()
        return api.Ready(ready=all(said == OK for said in stages.values()), stages=stages, model=self._version())

    async def _mask(self, filters: api.Filters | None) -> Mask | None:
        if filters is None or filters == api.Filters():
            return None
        return await self._in_thread(lambda: allowed(self.names.catalog, filters))

    def _varied(self, ranked: RankedAnswer, request: api.Recommend) -> RankedAnswer:
        tracks, scores = ranked.answer.ranking.tracks[0], ranked.answer.ranking.scores[0]
        count = ranked.count
        places = self.similar_tracks.varied(tracks[:count], scores[:count], request.k, request.diversity)
        return pick(ranked, places, request.k)

    def _full(self, ranked: RankedAnswer, query: Query, mask: Mask | None) -> RankedAnswer:
        """As many tracks as were asked for, wherever there are so many; the sources proposed without the mask."""
        return replace(ranked, answer=fill(ranked.answer, query, mask, len(self.names.vocabulary)))

    def _version(self) -> api.ModelVersion:
        return api.ModelVersion(version=self.version)

    def _told(self, asked: ResolvedQuery, told: StageAnswer, request_id: str) -> api.Recommended:
        """Not validated a second time: 500 tracks would cost more than their JSON."""
        return api.Recommended.model_construct(
            tracks=[self._track(row, told.ranked, place) for place, row in enumerate(rows(self.names, told.ranked.answer))],
            unknown_tracks=list(asked.unknown),
            degraded=list(told.degraded),
            model=self._version(),
            request_id=request_id,
        )

    def _track(self, row: Row, ranked: RankedAnswer, place: int) -> api.RankedTrack:
        why = self._why(ranked, place) if place < len(ranked.explanations) else None
        return api.RankedTrack.model_construct(
            track_id=row.track_id, title=row.title, artist=row.artist, score=row.score, sources=row.sources, why=why
        )

    def _why(self, ranked: RankedAnswer, place: int) -> api.Reason:
        why = ranked.explanations[place]
        return api.Reason(features=dict(why.features), like=self.names.vocabulary.ids(why.like))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)


def _rank_options(request: api.Recommend) -> RankOptions:
    length = max(POOL_FOR_VARIETY * request.k, LEAST_FOR_VARIETY) if request.diversity else request.k
    return RankOptions(request.k, length, explain=request.explain)
