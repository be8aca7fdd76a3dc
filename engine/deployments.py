"""The Ray Serve deployments: the stages and the gateway, each in replicas of its own, or all in one.

Input: an artifact that `engine.serve` has checked, and settings. Output: what Serve starts. Every class here is a shell:
the stages are those of `engine.calls`, the gateway that of `engine.gateway`, and a handle is made to look like a
stage, so that both topologies run the same code. Knows no route and no algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve import Deployment
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from engine.calls import HeldSecondStage, HeldSource, RankCall, SourceCall, hold_all, hold_second_stage, hold_source, open_version
from engine.conductor import Limits
from engine.door import RETRY_AFTER, keys_of_environment
from engine.gateway import Gateway
from engine.model import source_names
from engine.wants import Ranked, Want
from engine.web import web_app
from features.domain import Queries, Retrieved

CPUS = 0.1
"""What a replica reserves by default. A share, so that all fit a laptop; what it uses is set by `threads`."""
STAGE: dict[str, Any] = {
    "ray_actor_options": {"num_cpus": CPUS},
    "max_ongoing_requests": 4,
    "max_queued_requests": 64,
    "logging_config": {"enable_access_log": False},  # a line for every hop: the gateway's one a request says enough
}
INGRESS: dict[str, Any] = {
    "ray_actor_options": {"num_cpus": CPUS},
    "max_ongoing_requests": 256,  # above what may wait in the gateway itself, which refuses with problem details
    "max_queued_requests": 64,
    "backpressure_config": BackpressureConfig(status_code=429, retry_after_s=RETRY_AFTER),
}


class SourceReplica:
    """One source; opens no other part of the artifact."""

    def __init__(self, path: str, version: str, name: str, threads: int) -> None:
        self._held: HeldSource = hold_source(open_version(path, version), name, threads)

    async def ping(self, version: str) -> str:
        return await self._held.ping(version)

    async def retrieve(self, version: str, queries: Queries) -> Retrieved:
        return await self._held.retrieve(version, queries)


class RankerReplica:
    """Fusion, pair features and ranker; opens no index."""

    def __init__(self, path: str, version: str, threads: int) -> None:
        self._held: HeldSecondStage = hold_second_stage(open_version(path, version), threads)

    async def ping(self, version: str) -> str:
        return await self._held.ping(version)

    async def rank(self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], wants: Sequence[Want]) -> list[Ranked]:
        return await self._held.rank(version, queries, retrieved, wants)


class Remote:
    """A handle that looks like a stage."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def ping(self, version: str) -> str:
        answer: str = await self._handle.ping.remote(version)
        return answer

    async def retrieve(self, version: str, queries: Queries) -> Retrieved:
        answer: Retrieved = await self._handle.retrieve.remote(version, queries)
        return answer

    async def rank(self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], wants: Sequence[Want]) -> list[Ranked]:
        answer: list[Ranked] = await self._handle.rank.remote(version, queries, retrieved, wants)
        return answer


class GatewayReplica:
    """HTTP ingress. With handles it calls other deployments; without, it holds every stage itself."""

    def __init__(
        self,
        path: str,
        version: str,
        limits: Limits,
        threads: int,
        sources: dict[str, DeploymentHandle[Any]] | None = None,
        ranker: DeploymentHandle[Any] | None = None,
    ) -> None:
        artifact = open_version(path, version)
        calls: dict[str, SourceCall]
        rank: RankCall
        if sources is None or ranker is None:
            held, rank = hold_all(artifact, threads)
            calls = dict(held)
        else:
            calls, rank = {name: Remote(sources[name]) for name in source_names(artifact)}, Remote(ranker)
        self._gateway = Gateway.open(artifact, calls, rank, limits)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return web_app(self._gateway, keys_of_environment(), tell_id=False)  # Serve does


SOURCE: Deployment = serve.deployment(**STAGE)(SourceReplica)
RANKER: Deployment = serve.deployment(**STAGE)(RankerReplica)
GATEWAY: Deployment = serve.deployment(**INGRESS)(serve.ingress()(GatewayReplica))
