"""One batch through the stages: every source once, then the ranker once; what fails is left out and named.

Input: queries with what each wants. Output: ranked tracks for each, and which stages did not answer. A source that
fails, is slow or holds another model version is left out; without the ranker the sources' fusion is the order.
The stages may sit in this process or in others: only their methods are known here. Knows no name and no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from engine.answer.filters import POPULARITY, Mask, first, keep
from engine.answer.ranking import RankedAnswer, RankOptions, rank_each
from engine.model import RANKER
from engine.pipeline import SecondStage
from engine.serve.batching import Batcher
from engine.serve.local_stages import Proposals, RankerStage, SourcesStage, reason
from engine.serve.telemetry import NoTelemetry, Telemetry
from features.domain import Queries, Query, Retrieved, SegueError
from stages.retrieve import topk

LOG = logging.getLogger("segue")
ON_THE_WAY = 0.2
"""Seconds a call to several sources may take beyond the time that each of them has."""
QUIET = 10.0
"""Seconds after which it is said again that a stage does not answer."""


class TooSlow(SegueError):
    """The whole answer took longer than a request may take."""


@dataclass(frozen=True)
class Limits:
    """How much is done at once, and for how long; times in seconds."""

    batch: int = 16
    """Queries that travel together."""
    in_flight: int = 2
    """Batches under way at once."""
    waiting: int = 128
    """Requests that may wait; one more is refused."""
    source_timeout: float = 1.0
    ranker_timeout: float = 2.0
    deadline: float = 5.0
    """For a whole request, its waiting included."""


@dataclass(frozen=True)
class PendingQuery:
    """One query on its way through the stages."""

    query: Query
    option: RankOptions
    mask: Mask | None = None
    """(num_tracks,) the tracks that may be answered; None allows all."""


@dataclass(frozen=True)
class StageAnswer:
    """What the stages made of it, and the names of those that did not answer."""

    ranked: RankedAnswer
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceGroup:
    """Sources that are asked by one call, by name."""

    names: tuple[str, ...]
    call: SourcesStage


class Orchestrator:
    """Calls the stages of one model version, and never combines it with another."""

    def __init__(
        self,
        version: str,
        groups: Sequence[SourceGroup],
        ranker: RankerStage,
        fallback: SecondStage,
        limits: Limits,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`fallback` knows the sources in the model's order, and orders by fusion when the ranker does not answer."""
        self.version, self.limits = version, limits
        self._groups, self._ranker, self._fallback = tuple(groups), ranker, fallback
        self._telemetry: Telemetry = telemetry or NoTelemetry()
        self._said: dict[str, float] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fusion")
        self._batcher = Batcher(self._batch, limits.batch, limits.in_flight, limits.waiting)

    async def ask(self, item: PendingQuery) -> StageAnswer:
        """Overloaded where too many wait, TooSlow past the deadline."""
        try:
            return await asyncio.wait_for(self._batcher.submit(item), self.limits.deadline)
        except TimeoutError as error:
            raise TooSlow(f"request: expected an answer within {self.limits.deadline} s, found none. Ask again later") from error

    async def _batch(self, items: Sequence[PendingQuery]) -> list[StageAnswer]:
        queries, options = Queries.of(item.query for item in items), [item.option for item in items]
        self._telemetry.batch(len(items))
        retrieved, missing = await self._retrieve(queries, [self._proposals(item) for item in items])
        allowed = keep(retrieved or _nothing(queries), [item.mask for item in items])
        start = time.perf_counter()
        try:
            ranked = await asyncio.wait_for(self._ranker.rank(self.version, queries, allowed, options), self.limits.ranker_timeout)
        except Exception as error:  # whatever a stage dies of, an answer by fusion is better than none
            self._left_out(RANKER, _of_call(error, self.limits.ranker_timeout))
            ranked, missing = await self._by_fusion(queries, allowed, options), (*missing, RANKER)
        self._telemetry.stage(RANKER, time.perf_counter() - start)
        for one in ranked:
            self._telemetry.candidates(one.candidates)
        return [StageAnswer(one, missing) for one in ranked]

    def _proposals(self, item: PendingQuery) -> int:
        """Of each source; all that it may propose where a mask will thin them out, or where it is to say something of given tracks."""
        whole = item.mask is not None or item.option.among is not None
        return self._fallback.budget.proposals(None if whole else item.option.k)

    async def _retrieve(self, queries: Queries, counts: Sequence[int]) -> tuple[dict[str, Retrieved], tuple[str, ...]]:
        """The first `counts` proposals for each query, and the names of the sources that did not answer, in the model's order."""
        answers = await asyncio.gather(*(self._proposed(group, queries, max(counts)) for group in self._groups))
        retrieved = {name: first(result, counts) for answer in answers for name, result in answer.retrieved.items()}
        missing = {name: why for answer in answers for name, why in answer.missing.items()}
        for name, why in missing.items():
            self._left_out(name, why)
        names = self._fallback.pair_features.sources
        return {name: retrieved[name] for name in names if name in retrieved}, tuple(name for name in names if name in missing)

    async def _proposed(self, group: SourceGroup, queries: Queries, n: int) -> Proposals:
        within = self.limits.source_timeout
        try:
            proposed = await asyncio.wait_for(group.call.retrieve(self.version, queries, n, within), within + ON_THE_WAY)
        except Exception as error:  # whatever a stage dies of, the others are asked
            return Proposals({}, dict.fromkeys(group.names, _of_call(error, within)), {})
        for name, seconds in proposed.seconds.items():
            self._telemetry.stage(name, seconds)
        return proposed

    def _left_out(self, name: str, why: str) -> None:
        """Counted always, and said now and then."""
        self._telemetry.degraded(name)
        now = time.monotonic()
        if now - self._said.get(name, -QUIET) >= QUIET:
            self._said[name] = now
            LOG.warning("%s is left out of answers: %s", name, why)

    async def _by_fusion(self, queries: Queries, retrieved: Mapping[str, Retrieved], options: Sequence[RankOptions]) -> list[RankedAnswer]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: rank_each(self._fallback, queries, retrieved, options))

    async def ready(self) -> dict[str, str]:
        """`ok`, or what is wrong, of every stage; each is asked now."""
        stages = [*((group.names, group.call.ping(self.version)) for group in self._groups), ((RANKER,), self._ranker.ping(self.version))]
        said = await asyncio.gather(*(self._state(ping) for _, ping in stages))
        return {name: one for (names, _), one in zip(stages, said, strict=True) for name in names}

    async def _state(self, ping: Awaitable[str]) -> str:
        try:
            await asyncio.wait_for(ping, self.limits.source_timeout)
        except Exception as error:  # whatever it is, it is what /readyz is asked to tell
            return _of_call(error, self.limits.source_timeout)
        return OK


OK = "ok"


def _nothing(queries: Queries) -> dict[str, Retrieved]:
    """No source answered: nothing is proposed, and the gateway fills up with what is popular."""
    return {POPULARITY: topk.empty(len(queries), 1)}


def _of_call(error: Exception, within: float) -> str:
    return f"no answer within {within} s" if isinstance(error, TimeoutError) else reason(error)
