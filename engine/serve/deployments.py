"""The Ray Serve deployments: sources, ranker, gateway and release.

Input: settings, and a handle of the release, which knows the models that every replica has to open. Output: classes that Serve
runs in replicas. They contain no algorithm: a replica wraps a stage of `engine.serve.local_stages`, the active model or the
rollout, and RemoteStage makes a handle look like a stage, so that both topologies run the same code.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Deployment
from ray.serve.config import BackpressureConfig
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from engine.answer.ranking import RankedAnswer, RankOptions
from engine.serve.active_model import ActiveModel
from engine.serve.api_keys import keys_from_environment
from engine.serve.local_stages import LocalRanker, LocalSources
from engine.serve.model_cache import ModelRef, WrongVersion
from engine.serve.orchestrator import Limits
from engine.serve.placement import GATEWAY, sources_by_deployment
from engine.serve.problems import RETRY_AFTER_S
from engine.serve.prometheus import PrometheusTelemetry, log_to_serve_files
from engine.serve.protocols import Proposals, Stage, Terms, last_line
from engine.serve.replica_port import bind_to_node
from engine.serve.rollout import ModelChange, Rollout
from engine.serve.routes import web_app
from features.domain import Queries, Retrieved, SegueError

P = ParamSpec("P")
T = TypeVar("T")
LOG = logging.getLogger("segue")
CPUS = 0.1
"""What a replica reserves by default. A small share, so that all replicas fit on a laptop; `threads` sets what a replica uses."""
LOAD_TIMEOUT_S = 600.0
"""For every replica to open a model."""
CALL_TIMEOUT_S = 5.0
"""For a health check of a replica's threads, and for calls to the gateways."""
POLL_EVERY_S = 5.0
"""How often a gateway asks which model is served, in case it missed a rollout."""
STAGE_OPTIONS: dict[str, Any] = {
    "ray_actor_options": {"num_cpus": CPUS},
    "max_ongoing_requests": 16,  # batches of several gateways, which run one after the other
    "max_queued_requests": 64,
    "health_check_timeout_s": 2 * CALL_TIMEOUT_S,
    "logging_config": {"encoding": "JSON", "enable_access_log": False},  # the gateway logs every request
}
GATEWAY_OPTIONS: dict[str, Any] = {
    "ray_actor_options": {"num_cpus": CPUS},
    "max_ongoing_requests": 4096,  # above the gateway's own queue, which refuses with problem details
    "max_queued_requests": 4096,
    "backpressure_config": BackpressureConfig(status_code=429, retry_after_s=RETRY_AFTER_S),
    "logging_config": {"encoding": "JSON", "enable_access_log": False},  # the middleware writes a fuller line
}
RELEASE_OPTIONS: dict[str, Any] = {
    "num_replicas": 1,
    "ray_actor_options": {"num_cpus": 0},
    "max_ongoing_requests": 64,
    "logging_config": {"encoding": "JSON", "enable_access_log": False},
}


class _Follower:
    """Keeps a replica up to date with the release, when it starts and whenever a call names a model that is not open."""

    def __init__(self, release: DeploymentHandle[Any]) -> None:
        self._release = release
        self._catching_up: asyncio.Task[None] | None = None

    async def models(self) -> list[ModelRef]:
        return list(await asyncio.wait_for(self._release.models.remote(), LOAD_TIMEOUT_S))

    async def call(self, stage: Stage, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`; on WrongVersion the stage starts to open what the release serves."""
        try:
            return await work()
        except WrongVersion:
            if self._catching_up is None or self._catching_up.done():
                self._catching_up = asyncio.create_task(self.catch_up(stage))
            raise

    async def catch_up(self, stage: Stage) -> None:
        for model in await self.models():
            await stage.prepare(model)


class _StageReplica:
    """What the replicas of sources and ranker share."""

    _stage: Stage
    _follower: _Follower
    _version: str = ""
    """The version of the last call."""

    async def prepare(self, model: ModelRef) -> None:
        await self._stage.prepare(model)

    async def ping(self, version: str) -> str:
        self._version = await self._follower.call(self._stage, lambda: self._stage.ping(version))
        return self._version

    async def check_health(self) -> None:
        """Serve restarts the replica where no thread becomes free in time. Before the first call nothing is checked."""
        if self._version:
            try:
                await asyncio.wait_for(self._stage.ping(self._version), CALL_TIMEOUT_S)
            except WrongVersion:
                self._version = ""


class SourcesReplica(_StageReplica):
    """The sources of one deployment; opens no other part of the artifact."""

    async def __init__(self, release: DeploymentHandle[Any], deployment: str, apart: Sequence[str], threads: int) -> None:  # type: ignore[misc]
        self._sources = LocalSources(deployment, lambda artifact: sources_by_deployment(artifact, apart)[deployment], threads)
        self._stage, self._follower = self._sources, _Follower(release)
        await self._follower.catch_up(self._stage)

    async def retrieve(self, version: str, queries: Queries, n: int, terms: Terms) -> Proposals:
        self._version = version
        return await self._follower.call(self._stage, lambda: self._sources.retrieve(version, queries, n, terms))


class RankerReplica(_StageReplica):
    """Fusion, pair features and ranker; opens no index."""

    async def __init__(self, release: DeploymentHandle[Any]) -> None:  # type: ignore[misc]
        self._ranker = LocalRanker()
        self._stage, self._follower = self._ranker, _Follower(release)
        await self._follower.catch_up(self._stage)

    async def rank(
        self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], rank_options: Sequence[RankOptions], terms: Terms
    ) -> list[RankedAnswer]:
        self._version = version
        return await self._follower.call(self._stage, lambda: self._ranker.rank(version, queries, retrieved, rank_options, terms))


class RemoteStage:
    """A handle with the methods of a stage. A call whose replica dies is repeated once, in another replica."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        fast = handle.options(request_serialization="pickle", response_serialization="pickle")
        self._ping, self._retrieve, self._rank = fast.ping, fast.retrieve, fast.rank  # once: each takes time to create

    async def prepare(self, model: ModelRef) -> None:
        """Nothing: the release calls every replica itself."""

    async def ping(self, version: str) -> str:
        answer: str = await self._ping.remote(version)
        return answer

    async def retrieve(self, version: str, queries: Queries, n: int, terms: Terms) -> Proposals:
        answer: Proposals = await _repeat_if_dead(lambda: self._retrieve.remote(version, queries, n, terms))
        return answer

    async def rank(
        self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], rank_options: Sequence[RankOptions], terms: Terms
    ) -> list[RankedAnswer]:
        answer: list[RankedAnswer] = await _repeat_if_dead(lambda: self._rank.remote(version, queries, retrieved, rank_options, terms))
        return answer


async def _repeat_if_dead(call: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call()
    except RayActorError:
        return await call()


class GatewayReplica:
    """HTTP ingress. With handles it calls the stages in other deployments; without, it runs every stage itself."""

    async def __init__(  # type: ignore[misc]
        self,
        release: DeploymentHandle[Any],
        limits: Limits,
        threads: int,
        sources: dict[str, DeploymentHandle[Any]] | None = None,
        ranker: DeploymentHandle[Any] | None = None,
    ) -> None:
        """`sources` by deployment."""
        self._follower, self._telemetry = _Follower(release), PrometheusTelemetry()
        if sources is None or ranker is None:
            self._active = ActiveModel.in_process(limits, threads, self._telemetry)
        else:
            stages = {name: RemoteStage(handle) for name, handle in sources.items()}
            self._active = ActiveModel(stages, RemoteStage(ranker), limits, self._telemetry)
        await self._follow()
        self._following = asyncio.create_task(self._keep_following())

    def __serve_build_asgi_app__(self) -> ASGIApp:
        log_to_serve_files()
        keys = keys_from_environment()
        return web_app(lambda: self._active.gateway, keys, echo_request_id=False, telemetry=self._telemetry)  # Serve echoes it

    async def prepare(self, model: ModelRef) -> None:
        await self._active.prepare(model)

    async def activate(self, model: ModelRef) -> None:
        await self._active.activate(model)

    async def active_model(self) -> ModelRef | None:
        return self._active.model

    async def _follow(self) -> None:
        (served, *_) = await self._follower.models()
        await self._active.activate(served)

    async def _keep_following(self) -> None:
        while True:
            await asyncio.sleep(POLL_EVERY_S)
            try:
                await asyncio.wait_for(self._follow(), LOAD_TIMEOUT_S)
            except Exception as error:  # whatever the error, the active model is still served
                LOG.warning("the release does not answer: %s", last_line(error))


class RemoteReplicas:
    """Every replica of one deployment of this application."""

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment

    async def prepare(self, model: ModelRef) -> None:
        await self._call_all(_StageReplica.prepare, model)

    async def _call_all(self, method: Callable[Concatenate[Any, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> list[T]:
        """As `_broadcast`; a replica that is late or gone is a SegueError."""
        try:
            return await _broadcast(self._deployment, LOAD_TIMEOUT_S, method, *args, **kwargs)
        except (DeploymentUnavailableError, TimeoutError) as error:
            raise SegueError(f"{self._deployment}: expected an answer of every replica, found {last_line(error)}") from error


class RemoteGateways(RemoteReplicas):
    """Every replica of the gateway."""

    def __init__(self) -> None:
        super().__init__(GATEWAY)

    async def prepare(self, model: ModelRef) -> None:
        await self._call_all(GatewayReplica.prepare, model)

    async def activate(self, model: ModelRef) -> None:
        await self._call_all(GatewayReplica.activate, model)

    async def active_models(self) -> list[ModelRef]:
        try:
            models = await _broadcast(self._deployment, CALL_TIMEOUT_S, GatewayReplica.active_model)
        except (DeploymentUnavailableError, TimeoutError):  # the gateways start after the release
            return []
        return [model for model in models if model is not None]


async def _broadcast(
    deployment: str, timeout: float, method: Callable[Concatenate[Any, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> list[T]:
    """What `method` returns in each replica. Serve needs its name: this is the only place that uses a method's name."""
    handle = serve.get_deployment_handle(deployment, serve.get_replica_context().app_name)
    response: Any = handle.broadcast(method.__name__, *args, **kwargs)
    results: list[T] = await asyncio.wait_for(response.results_async(), timeout)
    return results


class ReleaseConfig(BaseModel):
    """The `user_config` of the release."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    artifact: str


class ReleaseReplica:
    """Which model is served: the artifact that `user_config` names, or the one given to `segue deploy`."""

    def __init__(self, stages: Sequence[str]) -> None:
        log_to_serve_files()
        self._rollout = Rollout([RemoteReplicas(stage) for stage in stages], RemoteGateways())
        self._started = False

    async def reconfigure(self, config: dict[str, str]) -> None:
        """Serve calls this when the replica starts, and again when `user_config` has changed: then it must not wait."""
        artifact = ReleaseConfig.model_validate(config).artifact
        if self._started:
            self._changing = asyncio.create_task(self._rollout.deploy_or_log(artifact))
        else:
            await self._rollout.start(artifact)
            self._started = True

    async def models(self) -> tuple[ModelRef, ...]:
        return await self._rollout.models()

    async def deploy(self, path: str) -> ModelChange:
        return await self._rollout.deploy(path)


bind_to_node()  # a replica imports this module before it opens the port on which others call it
SOURCES_DEPLOYMENT: Deployment = serve.deployment(**STAGE_OPTIONS)(SourcesReplica)
RANKER_DEPLOYMENT: Deployment = serve.deployment(**STAGE_OPTIONS)(RankerReplica)
GATEWAY_DEPLOYMENT: Deployment = serve.deployment(**GATEWAY_OPTIONS)(serve.ingress()(GatewayReplica))
RELEASE_DEPLOYMENT: Deployment = serve.deployment(**RELEASE_OPTIONS)(ReleaseReplica)
