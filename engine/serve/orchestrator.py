"""Orchestrates the two stages for a batch: every source once, then the ranker once; a stage that fails is left out and named.

Input: queries, each with its RankOptions and mask. Output: ranked tracks for each, and the names of the stages that failed. A
source that fails, is late or has another model version open is left out; without the ranker the fusion decides the order.
The stages may run in this process or in others (`engine.serve.protocols`). Independent of track names and of HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import inf

from engine.answer.filters import POPULARITY, Mask, limit_proposals
from engine.answer.ranking import RankedAnswer, RankOptions, rank_each
from engine.model import RANKER
from engine.pipeline import SecondStage
from engine.serve.batching import Batcher
from engine.serve.breaker import Breaker
from engine.serve.cost import LARGE, of_query
from engine.serve.protocols import Proposals, RankerStage, SourcesStage, Terms, last_line
from engine.serve.telemetry import NoTelemetry, Telemetry
from features.domain import Queries, Query, Retrieved, SegueError
from stages.retrieve import topk

LOG = logging.getLogger("segue")
OK = "ok"
CALL_OVERHEAD_S = 0.2
"""Added to the timeout of the sources for the call to their deployment."""
WARN_EVERY_S = 10.0
"""A stage that fails again and again is logged once in so many seconds."""


class NothingProposed(SegueError):
    """No source of a stage answered."""


@dataclass(frozen=True)
class Limits:
    """How much runs at once, and for how long; `engine.serve.app.ServeArgs` has the defaults of the service."""

    max_batch: int = 16
    """What a batch may cost, in ordinary queries."""
    in_flight: int = 2
    """Batches that run at once, of ordinary queries and of large ones."""
    max_waiting: int = 128
    """What may wait in a queue, in ordinary queries; one more is refused. Large queries have a queue of their own."""
    source_timeout_s: float = 1.0
    ranker_timeout_s: float = 2.0
    deadline_s: float = 5.0
    """For a whole request, from its arrival."""


@dataclass(frozen=True)
class PendingQuery:
    """One query on its way through the stages."""

    query: Query
    options: RankOptions
    mask: Mask | None = None
    """(num_tracks,) the tracks that may be in the answer; None allows all."""
    deadline: float = inf
    """When nobody waits any more, as of time.monotonic."""


@dataclass(frozen=True)
class StageAnswer:
    """The ranked tracks of one query, and the names of the stages that failed."""

    ranked: RankedAnswer
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceGroup:
    """Sources that are called together, by name."""

    names: tuple[str, ...]
    stage: SourcesStage


class Orchestrator:
    """Calls the stages of one model version."""

    def __init__(
        self,
        version: str,
        groups: Sequence[SourceGroup],
        ranker: RankerStage,
        fallback: SecondStage,
        limits: Limits,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`fallback` lists the sources in the model's order, and ranks by fusion where the ranker fails."""
        self.version, self.limits = version, limits
        self._groups, self._ranker, self._fallback = tuple(groups), ranker, fallback
        self._source_breakers = [Breaker(partial(group.stage.ping, version)) for group in groups]
        self._ranker_breaker = Breaker(partial(ranker.ping, version))
        self._telemetry: Telemetry = telemetry or NoTelemetry()
        self._last_warning: dict[str, float] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fusion")
        ordinary, large = (partial(self._answer_batch, large=large) for large in (False, True))
        self._ordinary = Batcher(ordinary, limits.max_batch, limits.in_flight, limits.max_waiting)
        self._large = Batcher(large, limits.max_batch, limits.in_flight, limits.max_waiting)

    @property
    def full(self) -> bool:
        """Whether an ordinary query would be refused."""
        return self._ordinary.full

    async def answer(self, pending: PendingQuery) -> StageAnswer:
        """Overloaded where the queue is full. Who no longer waits for it cancels it."""
        cost = of_query(pending.query, pending.options, self._num_candidates(pending.options))
        return await (self._large if cost > LARGE else self._ordinary).submit(pending, cost)

    def _num_candidates(self, options: RankOptions) -> int:
        return self._fallback.budget.most(options.k) if options.candidates is None else len(options.candidates)

    async def _answer_batch(self, batch: Sequence[PendingQuery], *, large: bool) -> list[StageAnswer]:
        self._telemetry.record_batch(len(batch))
        queries = Queries.of(pending.query for pending in batch)
        retrieved, degraded = await self._retrieve(queries, batch, large)
        start = time.perf_counter()
        try:
            ranked = await self._rank(queries, retrieved, batch, large)
        except Exception as error:  # whatever the error of the ranker, an answer by fusion is better than none
            self._record_failure(RANKER, _failure(error, self.limits.ranker_timeout_s))
            ranked, degraded = await self._rank_by_fusion(queries, retrieved, batch), (*degraded, RANKER)
        self._telemetry.record_stage(RANKER, time.perf_counter() - start)
        for one in ranked:
            self._telemetry.record_candidates(one.num_candidates)
        return [StageAnswer(one, degraded) for one in ranked]

    async def _retrieve(
        self, queries: Queries, batch: Sequence[PendingQuery], large: bool
    ) -> tuple[Mapping[str, Retrieved], tuple[str, ...]]:
        """What the sources propose for each query, and the names of the sources that failed; both in the model's order."""
        counts = [self._num_proposals(pending) for pending in batch]
        terms = _terms(self.limits.source_timeout_s, batch, large)
        calls = zip(self._groups, self._source_breakers, strict=True)
        answers = await asyncio.gather(*(self._call_sources(group, breaker, queries, max(counts), terms) for group, breaker in calls))
        retrieved = {name: result for proposals in answers for name, result in proposals.retrieved.items()}
        failures = {name: why for proposals in answers for name, why in proposals.failures.items()}
        for name, why in failures.items():
            self._record_failure(name, why)
        names = self._fallback.pair_features.sources
        in_order = {name: retrieved[name] for name in names if name in retrieved} or _no_proposals(queries)
        return limit_proposals(in_order, counts, [pending.mask for pending in batch]), tuple(name for name in names if name in failures)

    def _num_proposals(self, pending: PendingQuery) -> int:
        """Per source; the largest number where a mask will remove some, or where the candidates are given."""
        needs_all = pending.mask is not None or pending.options.candidates is not None
        return self._fallback.budget.proposals(None if needs_all else pending.options.k)

    async def _call_sources(self, group: SourceGroup, breaker: Breaker, queries: Queries, n: int, terms: Terms) -> Proposals:
        async def call() -> Proposals:
            stage = group.stage.retrieve(self.version, queries, n, terms)
            proposals = await asyncio.wait_for(stage, terms.timeout + CALL_OVERHEAD_S)
            if not proposals.retrieved:
                raise NothingProposed("; ".join(dict.fromkeys(proposals.failures.values())))
            return proposals

        try:
            proposals = await breaker.call(call, counts=not terms.large and terms.timeout == self.limits.source_timeout_s)
        except Exception as error:  # whatever the error of one group, the others are called
            return Proposals({}, dict.fromkeys(group.names, _failure(error, terms.timeout)), {})
        for name, seconds in proposals.seconds.items():
            self._telemetry.record_stage(name, seconds)
        return proposals

    async def _rank(
        self, queries: Queries, retrieved: Mapping[str, Retrieved], batch: Sequence[PendingQuery], large: bool
    ) -> list[RankedAnswer]:
        terms, rank_options = _terms(self.limits.ranker_timeout_s, batch, large), [pending.options for pending in batch]

        async def call() -> list[RankedAnswer]:
            return await asyncio.wait_for(self._ranker.rank(self.version, queries, retrieved, rank_options, terms), terms.timeout)

        return await self._ranker_breaker.call(call, counts=not large and terms.timeout == self.limits.ranker_timeout_s)

    async def _rank_by_fusion(
        self, queries: Queries, retrieved: Mapping[str, Retrieved], batch: Sequence[PendingQuery]
    ) -> list[RankedAnswer]:
        rank_options = [pending.options for pending in batch]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: rank_each(self._fallback, queries, retrieved, rank_options))

    def _record_failure(self, name: str, why: str) -> None:
        """Counted each time, logged once in WARN_EVERY_S."""
        self._telemetry.record_degraded(name)
        now = time.monotonic()
        if now - self._last_warning.get(name, -WARN_EVERY_S) >= WARN_EVERY_S:
            self._last_warning[name] = now
            LOG.warning("%s is left out of answers: %s", name, why)

    async def stage_states(self) -> dict[str, str]:
        """By source, and for the ranker: OK, or the error; every stage is called now."""
        pings = [(group.names, group.stage.ping(self.version)) for group in self._groups]
        pings.append(((RANKER,), self._ranker.ping(self.version)))
        states = await asyncio.gather(*(self._state(ping) for _, ping in pings))
        return {name: state for (names, _), state in zip(pings, states, strict=True) for name in names}

    async def _state(self, ping: Awaitable[str]) -> str:
        try:
            await asyncio.wait_for(ping, self.limits.source_timeout_s)
        except Exception as error:  # whatever the error, it is the state of the stage
            return _failure(error, self.limits.source_timeout_s)
        return OK


def _terms(timeout: float, batch: Sequence[PendingQuery], large: bool) -> Terms:
    """No longer than somebody waits for the batch."""
    return Terms(min(timeout, max(max(pending.deadline for pending in batch) - time.monotonic(), 0.0)), large)


def _no_proposals(queries: Queries) -> dict[str, Retrieved]:
    """Where all sources fail: one source without a proposal; the gateway then answers with popular tracks."""
    return {POPULARITY: topk.empty(len(queries), 1)}


def _failure(error: Exception, timeout: float) -> str:
    return f"no answer within {timeout} s" if isinstance(error, TimeoutError) else last_line(error)
