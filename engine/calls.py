"""The stages as a server holds them: each answers calls that name the model version they are meant for.

Input: a version and a batch of arrays. Output: arrays, computed in the stage's own thread, so that the event loop stays
free for requests and health checks. In one process the gateway calls these objects themselves; across processes it
calls handles with the same methods (`engine.deployments`). Knows neither HTTP nor Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch

from engine.artifact import Artifact, open_artifact
from engine.model import FUSION, RANKER, config_of, open_fusion, open_second_stage, open_source, source_names
from engine.pipeline import SecondStage
from engine.wants import Ranked, Want, rank_each
from features.domain import Queries, Query, Retrieved, SegueError
from features.pairs import Facts, PairFeatures
from stages.protocols import Retriever

T = TypeVar("T")


class WrongVersion(SegueError):
    """The stage holds another model than the call is meant for; the two must never be combined."""


class Stage(Protocol):
    """Anything that can say whether it answers."""

    async def ping(self, version: str) -> str:
        """`version`, once the stage's thread had a moment; WrongVersion where the stage holds another."""
        ...


class SourceCall(Stage, Protocol):
    """One source, wherever it runs."""

    async def retrieve(self, version: str, queries: Queries) -> Retrieved: ...


class RankCall(Stage, Protocol):
    """The second stage, wherever it runs."""

    async def rank(self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], wants: Sequence[Want]) -> list[Ranked]: ...


class _Held:
    """A version, and a thread to work in."""

    def __init__(self, version: str, name: str, pool: ThreadPoolExecutor | None = None) -> None:
        self.version, self.name = version, name
        self._pool = pool or ThreadPoolExecutor(1, thread_name_prefix=name)

    async def ping(self, version: str) -> str:
        return await self._work(version, lambda: self.version)

    async def _work(self, version: str, work: Callable[[], T]) -> T:
        if version != self.version:
            raise WrongVersion(f"{self.name}: expected model {version}, found {self.version}. A rolling change is under way. Ask again")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


class HeldSource(_Held):
    """One source of the artifact, opened and warm."""

    def __init__(self, version: str, name: str, source: Retriever, n: int, pool: ThreadPoolExecutor | None = None) -> None:
        super().__init__(version, name, pool)
        self._source, self._n = source, n
        source.retrieve(WARM_UP, n)

    async def retrieve(self, version: str, queries: Queries) -> Retrieved:
        return await self._work(version, lambda: self._source.retrieve(queries, self._n))


class HeldSecondStage(_Held):
    """The second stage of the artifact, opened and warm."""

    def __init__(self, version: str, second: SecondStage, pool: ThreadPoolExecutor | None = None) -> None:
        super().__init__(version, "ranker", pool)
        self._second = second
        proposed = {"popularity": Retrieved(np.zeros((len(WARM_UP), 1), np.int32), np.zeros((len(WARM_UP), 1), np.float32))}
        rank_each(second, WARM_UP, proposed, [Want(1, 1)] * len(WARM_UP))

    async def rank(self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], wants: Sequence[Want]) -> list[Ranked]:
        return await self._work(version, lambda: rank_each(self._second, queries, retrieved, wants))


WARM_UP = Queries.of([Query(), Query(np.zeros(1, np.int32), "a")])
"""Asked once when a stage opens: pages are read and lazy parts made before the first request."""


def hold_source(artifact: Artifact, name: str, threads: int, pool: ThreadPoolExecutor | None = None) -> HeldSource:
    torch.set_num_threads(threads)
    n = config_of(artifact).candidates.per_source
    return HeldSource(artifact.manifest.version, name, open_source(artifact, name), n, pool)


def hold_second_stage(artifact: Artifact, threads: int, pool: ThreadPoolExecutor | None = None) -> HeldSecondStage:
    torch.set_num_threads(threads)
    return HeldSecondStage(artifact.manifest.version, open_second_stage(artifact, threads), pool)


def hold_all(artifact: Artifact, threads: int) -> tuple[dict[str, HeldSource], HeldSecondStage]:
    """Every stage in this process; they share `threads` threads."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="stage")
    sources = {name: hold_source(artifact, name, 1, pool) for name in source_names(artifact)}
    return sources, hold_second_stage(artifact, 1, pool)


def fusion_only(artifact: Artifact) -> SecondStage:
    """A second stage without ranker; fusion asks for no facts, so none are opened."""
    none = np.empty(0, np.int32)
    features = PairFeatures(Facts(none, none, np.empty(0, np.float32), none, np.zeros(1, np.int64)), source_names(artifact), {})
    return SecondStage(features, open_fusion(artifact.path / RANKER / FUSION), None, config_of(artifact).candidates)


def open_version(path: str, version: str) -> Artifact:
    """The artifact at `path` that `engine.serve` has checked in full; a folder that was exchanged since is a WrongVersion."""
    artifact = open_artifact(Path(path), verify="size")
    if artifact.manifest.version != version:
        raise WrongVersion(f"{path}: expected model {version}, found {artifact.manifest.version}. Deploy again")
    return artifact
