"""The gateway: answers the requests of `engine.answer.api` with one model version.

Input: requests with ids, titles and filters. Output: answers with ids and titles, with the ids that are not known and the stages
that failed. Holds the names of the model and calls its stages through an Orchestrator. Independent of the web framework and of
Ray.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.answer import api, rows
from engine.answer.filters import Mask, allowed_tracks, fill_with_popular
from engine.answer.ranking import RankedAnswer, RankOptions
from engine.answer.resolve import resolve, resolve_track
from engine.answer.similar import SimilarTracks
from engine.answer.track_search import TrackSearch
from engine.artifact import Artifact, Manifest
from engine.model import Names, open_names
from engine.serve import cost
from engine.serve.admission import Admission
from engine.serve.batching import Batcher
from engine.serve.local_stages import fusion_only
from engine.serve.orchestrator import OK, Limits, Orchestrator, PendingQuery, SourceGroup, StageAnswer
from engine.serve.protocols import RankerStage
from engine.serve.telemetry import Telemetry
from features.domain import SegueError

T = TypeVar("T")
DIVERSITY_POOL = 5
"""Tracks ranked for each track of a diverse answer, and at least MIN_DIVERSITY_POOL in all."""
MIN_DIVERSITY_POOL = 100
CHARACTERS = 50
"""Of a track's names, about."""


class TooSlow(SegueError):
    """A request was not answered before its deadline."""


@dataclass(frozen=True)
class Gateway:
    """The names of one model version, and the calls to its stages."""

    manifest: Manifest
    names: Names
    orchestrator: Orchestrator
    similar_tracks: SimilarTracks
    track_search: TrackSearch
    scans: Batcher[Callable[[], Any], Any]
    """Looks at all tracks, or at many, one after the other in a thread, so that the event loop stays free."""
    admission: Admission

    @classmethod
    def open(
        cls, artifact: Artifact, groups: Sequence[SourceGroup], ranker: RankerStage, limits: Limits, telemetry: Telemetry | None = None
    ) -> Gateway:
        """`groups` contain every source of the artifact."""
        names = open_names(artifact)
        names.vocabulary.index_of(["warm"])  # builds its lookup table, which takes a second for millions of tracks
        orchestrator = Orchestrator(artifact.manifest.version, groups, ranker, fusion_only(artifact), limits, telemetry)
        scans = Batcher(_one_by_one(ThreadPoolExecutor(1, thread_name_prefix="scans")), 0, 1, limits.max_waiting)
        admission = Admission(lambda: orchestrator.full)
        return cls(artifact.manifest, names, orchestrator, SimilarTracks.open(artifact), TrackSearch(names), scans, admission)

    @property
    def version(self) -> str:
        return self.manifest.version

    async def warm(self) -> None:
        """Answers a first request through every stage; a stage that fails is a SegueError."""
        answer = await self.recommend(api.Recommend(title="warm", k=1), "warm")
        if answer.degraded:
            raise SegueError(f"model {self.version}: expected every stage to answer, found none from {', '.join(answer.degraded)}")

    @asynccontextmanager
    async def in_time(self, arrived: float) -> AsyncIterator[float]:
        """Yields the deadline of a request that arrived then (time.monotonic); what is not done by then is cancelled, and TooSlow."""
        seconds, loop = self.orchestrator.limits.deadline_s, asyncio.get_running_loop()
        deadline = arrived + seconds
        try:
            async with asyncio.timeout_at(loop.time() + deadline - time.monotonic()):
                yield deadline
            if time.monotonic() > deadline:  # without a pause in which it could have been cancelled
                raise TimeoutError
        except TimeoutError as error:
            raise TooSlow(f"request: expected an answer within {seconds:g} s, found none. Ask again later") from error

    async def recommend(self, request: api.Recommend, request_id: str, arrived: float | None = None) -> api.Recommended:
        """`arrived`: as of time.monotonic; None: now. So it is for the other requests."""
        async with self.in_time(_or_now(arrived)) as deadline:
            resolved = resolve(self.names, request.tracks, request.playlist_id, request.title, request.exclude)
            mask = await self._mask(request.filters)
            answer = await self.orchestrator.answer(PendingQuery(resolved.query, _rank_options(request), mask, deadline))
            ranked = answer.ranked
            if request.diversity:
                work = cost.of_scan(len(ranked.tracks) * request.k * self.similar_tracks.dimension)
                ranked = await self._in_thread(lambda: self._diversify(answer.ranked, request), work)
            if request.filters is not None or answer.degraded:
                ranked = fill_with_popular(ranked, request.k, resolved.query, mask, len(self.names.vocabulary))
            return self._recommended(ranked, resolved.unknown_tracks, answer.degraded, request_id)

    async def rank(self, request: api.Rank, request_id: str, arrived: float | None = None) -> api.Recommended:
        """Candidates that are not known are listed with the unknown tracks."""
        async with self.in_time(_or_now(arrived)) as deadline:
            resolved, given = resolve(self.names, request.tracks, title=request.title), resolve(self.names, request.candidates)
            candidates = given.query.seeds
            answer = StageAnswer(RankedAnswer())
            if len(candidates):
                options = RankOptions(len(candidates), len(candidates), candidates)
                answer = await self.orchestrator.answer(PendingQuery(resolved.query, options, deadline=deadline))
            unknown = tuple(dict.fromkeys(resolved.unknown_tracks + given.unknown_tracks))
            return self._recommended(answer.ranked, unknown, answer.degraded, request_id)

    async def similar(self, request: api.Similar, request_id: str, arrived: float | None = None) -> api.Nearest:
        async with self.in_time(_or_now(arrived)):
            track = resolve_track(self.names, request.track_id)
            work = cost.of_scan(len(self.names.vocabulary) * self.similar_tracks.dimension)
            space, tracks, cosines = await self._in_thread(lambda: self.similar_tracks.nearest(track, request.k), work)
            near = [api.NearTrack(**vars(row)) for row in rows.similar_tracks(self.names, tracks, cosines)]
            return api.Nearest(tracks=near, space=space, model=self._model_version(), request_id=request_id)

    async def search(self, text: str, limit: int, arrived: float | None = None) -> api.Found:
        async with self.in_time(_or_now(arrived)):
            work = cost.of_scan(len(self.names.vocabulary) * CHARACTERS * len(text.split()))
            tracks = await self._in_thread(lambda: self.track_search.find(text, limit), work)
            return api.Found(tracks=[api.Track(**vars(row)) for row in rows.tracks(self.names, tracks)])

    async def ready(self) -> api.Ready:
        states = await self.orchestrator.stage_states()
        return api.Ready(ready=all(state == OK for state in states.values()), stages=states, model=self._model_version())

    async def _mask(self, filters: api.Filters | None) -> Mask | None:
        if filters is None or filters == api.Filters():
            return None
        work = cost.of_scan(len(self.names.vocabulary) * CHARACTERS * len(filters.model_fields_set))
        return await self._in_thread(lambda: allowed_tracks(self.names.catalog, filters), work)

    def _diversify(self, ranked: RankedAnswer, request: api.Recommend) -> RankedAnswer:
        return ranked.pick(self.similar_tracks.diversify(ranked.tracks, ranked.scores, request.k, request.diversity))

    def _recommended(
        self, ranked: RankedAnswer, unknown_tracks: Sequence[str], degraded: Sequence[str], request_id: str
    ) -> api.Recommended:
        """Without validation, which for 500 tracks would take longer than their JSON."""
        return api.Recommended.model_construct(
            tracks=[_ranked_track(row) for row in rows.recommended_tracks(self.names, ranked)],
            unknown_tracks=list(unknown_tracks),
            degraded=list(degraded),
            model=self._model_version(),
            request_id=request_id,
        )

    def _model_version(self) -> api.ModelVersion:
        return api.ModelVersion(version=self.version)

    async def _in_thread(self, work: Callable[[], T], work_cost: float) -> T:
        result: T = await self.scans.submit(work, work_cost)
        return result


def _or_now(arrived: float | None) -> float:
    return time.monotonic() if arrived is None else arrived


def _one_by_one(pool: ThreadPoolExecutor) -> Callable[[Sequence[Callable[[], Any]]], Awaitable[list[Any]]]:
    async def run(works: Sequence[Callable[[], Any]]) -> list[Any]:
        return [await asyncio.get_running_loop().run_in_executor(pool, work) for work in works]

    return run


def _rank_options(request: api.Recommend) -> RankOptions:
    length = max(DIVERSITY_POOL * request.k, MIN_DIVERSITY_POOL) if request.diversity else request.k
    return RankOptions(request.k, length, explain=request.explain)


def _ranked_track(row: rows.RecommendedTrack) -> api.RankedTrack:
    why = api.Reason(features=dict(row.why.features), like=list(row.why.similar_seeds)) if row.why else None
    return api.RankedTrack.model_construct(
        track_id=row.track_id, title=row.title, artist=row.artist, score=row.score, sources=dict(row.sources), why=why
    )
