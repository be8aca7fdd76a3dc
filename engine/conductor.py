"""One batch through the stages: every source once, then the ranker once; what fails is left out and named.

Input: queries with what each wants. Output: ranked tracks for each, and which stages did not answer. A source that
fails, is slow or holds another model version is left out; without the ranker the sources' fusion is the order.
The stages may sit in this process or in others: only their methods are known here. Knows no name and no HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from engine.batching import Batcher
from engine.calls import RankCall, SourceCall, Stage
from engine.filters import POPULARITY, Mask, keep
from engine.pipeline import SecondStage
from engine.wants import Ranked, Want, rank_each
from features.domain import Queries, Query, Retrieved, SegueError
from stages.retrieve import topk

T = TypeVar("T")
RANKER = "ranker"


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
class Item:
    """One query on its way through the stages."""

    query: Query
    want: Want
    mask: Mask | None = None
    """(num_tracks,) the tracks that may be answered; None allows all."""


@dataclass(frozen=True)
class Told:
    """What the stages made of it, and the names of those that did not answer."""

    ranked: Ranked
    degraded: tuple[str, ...] = ()


class Conductor:
    """Calls the stages of one model version, and never combines it with another."""

    def __init__(self, version: str, sources: Mapping[str, SourceCall], ranker: RankCall, fallback: SecondStage, limits: Limits) -> None:
        """`sources` in the model's order; `fallback` orders by fusion when the ranker does not answer."""
        self.version, self.limits = version, limits
        self._sources, self._ranker, self._fallback = dict(sources), ranker, fallback
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fusion")
        self._batcher = Batcher(self._batch, limits.batch, limits.in_flight, limits.waiting)

    async def ask(self, item: Item) -> Told:
        """Overloaded where too many wait, TooSlow past the deadline."""
        try:
            return await asyncio.wait_for(self._batcher.submit(item), self.limits.deadline)
        except TimeoutError as error:
            raise TooSlow(f"request: expected an answer within {self.limits.deadline} s, found none. Ask again later") from error

    async def _batch(self, items: Sequence[Item]) -> list[Told]:
        queries, wants = Queries.of(item.query for item in items), [item.want for item in items]
        retrieved, missing = await self._retrieve(queries)
        allowed = keep(retrieved or _nothing(queries), [item.mask for item in items])
        try:
            ranked = await asyncio.wait_for(self._ranker.rank(self.version, queries, allowed, wants), self.limits.ranker_timeout)
        except Exception:  # whatever a stage dies of, an answer by fusion is better than none
            ranked, missing = await self._by_fusion(queries, allowed, wants), (*missing, RANKER)
        return [Told(one, missing) for one in ranked]

    async def _retrieve(self, queries: Queries) -> tuple[dict[str, Retrieved], tuple[str, ...]]:
        """What each source proposes, and the names of the sources that did not answer."""
        calls = [asyncio.wait_for(source.retrieve(self.version, queries), self.limits.source_timeout) for source in self._sources.values()]
        results = dict(zip(self._sources, await asyncio.gather(*calls, return_exceptions=True), strict=True))
        missing = tuple(name for name, result in results.items() if isinstance(result, BaseException))
        return {name: result for name, result in results.items() if not isinstance(result, BaseException)}, missing

    async def _by_fusion(self, queries: Queries, retrieved: Mapping[str, Retrieved], wants: Sequence[Want]) -> list[Ranked]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: rank_each(self._fallback, queries, retrieved, wants))

    async def ready(self) -> dict[str, str]:
        """`ok`, or what is wrong, of every stage; each is asked now."""
        stages: dict[str, Stage] = {**self._sources, RANKER: self._ranker}
        said = await asyncio.gather(*(self._said(stage.ping(self.version)) for stage in stages.values()))
        return dict(zip(stages, said, strict=True))

    async def _said(self, ping: Awaitable[str]) -> str:
        try:
            await asyncio.wait_for(ping, self.limits.source_timeout)
        except TimeoutError:
            return f"no answer within {self.limits.source_timeout} s"
        except Exception as error:  # whatever it is, it is what /readyz is asked to tell
            return (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return OK


OK = "ok"


def _nothing(queries: Queries) -> dict[str, Retrieved]:
    """No source answered: nothing is proposed, and the gateway fills up with what is popular."""
    return {POPULARITY: topk.empty(len(queries), 1)}
