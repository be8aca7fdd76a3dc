"""The stages of a model in this process: some of its sources, or its ranker.

Input: a model version and a batch of arrays. Output: arrays, computed in the stage's own threads, so that the event loop stays
free for requests and health checks. Implements `engine.serve.protocols`. Independent of HTTP and of Ray.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np

from engine.answer.ranking import RankedAnswer, RankOptions, rank_each
from engine.artifact import Artifact
from engine.model import RANKER, config_of, open_fusion, open_second_stage, open_source, source_names
from engine.pipeline import SecondStage
from engine.serve.model_cache import ModelCache, ModelRef
from engine.serve.protocols import Proposals, last_line
from features.domain import Queries, Query, Retrieved
from features.pairs import Facts, PairFeatures
from features.ragged import Ragged
from stages.protocols import Retriever

T = TypeVar("T")
Sources = Mapping[str, Retriever]
"""The opened sources of one model version, by name."""
WARM_UP_QUERIES = Queries.of([Query(), *(Query(np.zeros(1, np.int32), "a") for _ in range(5))])
"""Answered when a stage opens, so that files are read and loops are compiled, for lone and for several queries, before the first
request."""


class _LocalStage(Generic[T]):
    """A part of one or more model versions, and the threads that compute with it."""

    def __init__(self, name: str, open_part: Callable[[Artifact], T], threads: int) -> None:
        self._models = ModelCache(name, open_part)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def prepare(self, model: ModelRef) -> None:
        await self._models.prepare(model)

    async def ping(self, version: str) -> str:
        self._models.get(version)
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: version)


class LocalSources(_LocalStage[Sources]):
    """Some sources of a model.

    For a lone query the sources run in parallel, in as many threads as there are. For a batch that would take longer, since the
    threads compete for the interpreter lock: its sources run one after the other, and so do batches.
    """

    def __init__(self, name: str, select: Callable[[Artifact], Sequence[str]], threads: int) -> None:
        """`select`: the names of the artifact's sources that this stage opens."""
        super().__init__(name, lambda artifact: open_sources(artifact, select(artifact)), threads)
        self._threads, self._one_batch = threads, asyncio.Lock()

    async def retrieve(self, version: str, queries: Queries, n: int, timeout: float) -> Proposals:
        sources, calls, loop = self._models.get(version), _SourceCalls(), asyncio.get_running_loop()
        names = list(sources)
        threads = min(self._threads if len(queries) == 1 else 1, len(names))
        async with self._one_batch:
            jobs = [loop.run_in_executor(self._pool, calls.run, sources, names[first::threads], queries, n) for first in range(threads)]
            if jobs:  # a late source finishes in its thread, and its proposals are dropped
                await asyncio.wait(jobs, timeout=timeout)
        return calls.proposals(names, timeout)


class _SourceCalls:
    """The calls of one batch to sources, from several threads, and the results so far."""

    def __init__(self) -> None:
        self._retrieved, self._failures, self._seconds = dict[str, Retrieved](), dict[str, str](), dict[str, float]()

    def run(self, sources: Sources, names: Sequence[str], queries: Queries, n: int) -> None:
        for name in names:
            start = time.perf_counter()
            try:
                self._retrieved[name] = sources[name].retrieve(queries, n)
            except Exception as error:  # whatever the error of one source, the others are called
                self._failures[name] = last_line(error)
            self._seconds[name] = time.perf_counter() - start

    def proposals(self, names: Sequence[str], timeout: float) -> Proposals:
        retrieved, failures = dict(self._retrieved), dict(self._failures)
        late = {name: f"no answer within {timeout} s" for name in names if name not in retrieved and name not in failures}
        return Proposals(retrieved, {**failures, **late}, dict(self._seconds))


class LocalRanker(_LocalStage[SecondStage]):
    """The second stage of a model."""

    def __init__(self) -> None:
        super().__init__(RANKER, open_ranker, threads=1)

    async def rank(
        self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], rank_options: Sequence[RankOptions]
    ) -> list[RankedAnswer]:
        second = self._models.get(version)
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: rank_each(second, queries, retrieved, rank_options))


def open_sources(artifact: Artifact, names: Sequence[str]) -> Sources:
    """The named sources, warm."""
    sources = {name: open_source(artifact, name) for name in names}
    for source in sources.values():
        source.retrieve(WARM_UP_QUERIES, config_of(artifact).candidates.per_source)
    return sources


def open_ranker(artifact: Artifact) -> SecondStage:
    """The second stage, warm."""
    second, count = open_second_stage(artifact), len(WARM_UP_QUERIES)
    tracks = np.tile(np.arange(2, dtype=np.int32), (count, 1))
    retrieved = {"popularity": Retrieved(tracks, np.zeros(tracks.shape, np.float32))}
    rank_each(second, WARM_UP_QUERIES, retrieved, [RankOptions(1, 1)] * count)
    return second


def fusion_only(artifact: Artifact) -> SecondStage:
    """A second stage without a ranker: it ranks by fusion, which needs no facts, so that none are opened."""
    none = np.empty(0, np.int32)
    features = PairFeatures(Facts(none, none, np.empty(0, np.float32), Ragged.of(())), source_names(artifact), {})
    return SecondStage(features, open_fusion(artifact), None, config_of(artifact).candidates)
