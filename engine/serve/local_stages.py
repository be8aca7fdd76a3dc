"""The stages as a process holds them: each answers calls that name the model version they are meant for.

Input: a version and a batch of arrays. Output: arrays, computed in the stage's own threads, so that the event loop stays
free for requests and health checks. In one process the gateway calls these objects themselves; across processes it
calls handles with the same methods (`engine.serve.deployments`). Knows neither HTTP nor Ray.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from engine.answer.ranking import RankedAnswer, RankOptions, rank_each
from engine.artifact import Artifact
from engine.model import FUSION, RANKER, config_of, open_fusion, open_second_stage, open_source, source_names
from engine.pipeline import SecondStage
from engine.serve.model_cache import ModelCache, ModelRef
from features.domain import Queries, Query, Retrieved
from features.pairs import Facts, PairFeatures
from features.ragged import Ragged
from stages.protocols import Retriever

T = TypeVar("T")


@dataclass(frozen=True)
class Proposals:
    """What each source that was called proposes, and what those that do not answer died of."""

    retrieved: Mapping[str, Retrieved]
    missing: Mapping[str, str]
    seconds: Mapping[str, float]
    """How long each source took."""


class Stage(Protocol):
    """Anything that holds versions of a part of a model."""

    async def prepare(self, model: ModelRef) -> None:
        """Opens the model beside those that are held; afterwards calls may name its version."""
        ...

    async def ping(self, version: str) -> str:
        """`version`, once a thread of the stage had a moment; WrongVersion where the stage does not hold it."""
        ...


class SourcesStage(Stage, Protocol):
    """Some of a model's sources, wherever they run."""

    async def retrieve(self, version: str, queries: Queries, n: int, within: float) -> Proposals:
        """The first `n` proposals of each source, as far as they have come after `within` seconds."""
        ...


class RankerStage(Stage, Protocol):
    """The second stage, wherever it runs."""

    async def rank(
        self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], options: Sequence[RankOptions]
    ) -> list[RankedAnswer]: ...


class _LocalStage(Generic[T]):
    """Versions of a part, and threads to work in."""

    def __init__(self, name: str, open_part: Callable[[Artifact], T], threads: int) -> None:
        self._versions = ModelCache(name, open_part)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def prepare(self, model: ModelRef) -> None:
        await self._versions.prepare(model)

    async def ping(self, version: str) -> str:
        self._versions.of(version)
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: version)


Sources = Mapping[str, Retriever]
"""By name, of one version, opened and warm."""


def open_sources(artifact: Artifact, names: Sequence[str]) -> Sources:
    sources = {name: open_source(artifact, name) for name in names}
    for source in sources.values():
        source.retrieve(WARM_UP, config_of(artifact).candidates.per_source)
    return sources


class LocalSources(_LocalStage[Sources]):
    """Some sources of the model in this process.

    A lone query asks them side by side, as many at once as there are threads. For a batch that would take longer, since threads
    wait for one interpreter; so batches ask one source after the other, and come one after the other.
    """

    def __init__(self, name: str, which: Callable[[Artifact], Sequence[str]], threads: int) -> None:
        """`which`: the names of an artifact's sources that live here."""
        super().__init__(name, lambda artifact: open_sources(artifact, which(artifact)), threads)
        self._threads, self._one_by_one = threads, asyncio.Lock()

    async def retrieve(self, version: str, queries: Queries, n: int, within: float) -> Proposals:
        held, answers = self._versions.of(version), _Answers()
        names, loop = list(held), asyncio.get_running_loop()
        at_once = min(self._threads if len(queries) == 1 else 1, len(names))
        async with self._one_by_one:
            jobs = [loop.run_in_executor(self._pool, answers.ask, held, names[place::at_once], queries, n) for place in range(at_once)]
            if jobs:  # a late one finishes in its thread, and nobody hears of it
                await asyncio.wait(jobs, timeout=within)
        return answers.so_far(names, within)


class _Answers:
    """What the threads of one call have found out so far."""

    def __init__(self) -> None:
        self._retrieved, self._missing, self._seconds = dict[str, Retrieved](), dict[str, str](), dict[str, float]()

    def ask(self, held: Sources, names: Sequence[str], queries: Queries, n: int) -> None:
        for name in names:
            start = time.perf_counter()
            try:
                self._retrieved[name] = held[name].retrieve(queries, n)
            except Exception as error:  # whatever a source dies of, the others are asked
                self._missing[name] = reason(error)
            self._seconds[name] = time.perf_counter() - start

    def so_far(self, names: Sequence[str], within: float) -> Proposals:
        retrieved, missing = dict(self._retrieved), dict(self._missing)
        late = {name: f"no answer within {within} s" for name in names if name not in retrieved and name not in missing}
        return Proposals(retrieved, {**missing, **late}, dict(self._seconds))


class LocalRanker(_LocalStage[SecondStage]):
    """The second stage in this process."""

    def __init__(self) -> None:
        super().__init__(RANKER, lambda artifact: _warm(open_second_stage(artifact)), threads=1)

    async def rank(
        self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], options: Sequence[RankOptions]
    ) -> list[RankedAnswer]:
        second = self._versions.of(version)
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: rank_each(second, queries, retrieved, options))


WARM_UP = Queries.of([Query(), *(Query(np.zeros(1, np.int32), "a") for _ in range(5))])
"""Asked once when a stage opens: pages are read, and loops compiled for lone queries and for several, before the first request."""


def _warm(second: SecondStage) -> SecondStage:
    tracks = np.tile(np.arange(2, dtype=np.int32), (len(WARM_UP), 1))
    rank_each(second, WARM_UP, {"popularity": Retrieved(tracks, np.zeros(tracks.shape, np.float32))}, [RankOptions(1, 1)] * len(WARM_UP))
    return second


def fusion_only(artifact: Artifact) -> SecondStage:
    """A second stage without ranker; fusion asks for no facts, so none are opened."""
    none = np.empty(0, np.int32)
    features = PairFeatures(Facts(none, none, np.empty(0, np.float32), Ragged.of(())), source_names(artifact), {})
    return SecondStage(features, open_fusion(artifact.path / RANKER / FUSION), None, config_of(artifact).candidates)


def reason(error: BaseException) -> str:
    """One line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
