"""The Ray Serve deployments: the stages, the gateway and the release, each in replicas of its own.

Input: settings, and the release, which says what model to open. Output: what Serve starts. Every class here is a shell: the
stages are those of `engine.serve.local_stages`, the gateway that of `engine.serve.gateway`, and a handle is made to look like a stage, so
that both topologies run the same code. Knows no route and no algorithm.
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
from engine.serve.local_stages import LocalRanker, LocalSources, Proposals, Stage, reason
from engine.serve.middleware import RETRY_AFTER, keys_of_environment
from engine.serve.model_cache import ModelRef, WrongVersion
from engine.serve.orchestrator import Limits
from engine.serve.placement import GATEWAY, placed
from engine.serve.prometheus import PrometheusTelemetry, log_as_serve_does
from engine.serve.rollout import ModelChange, Rollout
from engine.serve.routes import web_app
from features.domain import Queries, Retrieved, SegueError

P = ParamSpec("P")
T = TypeVar("T")
LOG = logging.getLogger("segue")
CPUS = 0.1
"""What a replica reserves by default. A share, so that all fit a laptop; what it uses is set by `threads`."""
LOADING_S = 600.0
"""A model must be open in every replica after so long."""
ANSWERING_S = 5.0
"""A replica whose threads do not come to a call for so long is not healthy; nor are calls of the release waited for longer."""
LOOK_EVERY_S = 5.0
"""A gateway that missed a change of models hears of it after so long."""
STAGE: dict[str, Any] = {
    "ray_actor_options": {"num_cpus": CPUS},
    "max_ongoing_requests": 16,  # batches of several gateways, one after the other
    "max_queued_requests": 64,
    "health_check_timeout_s": 2 * ANSWERING_S,
    "logging_config": {"encoding": "JSON", "enable_access_log": False},  # the gateway's line a request says enough
}
INGRESS: dict[str, Any] = {
    "ray_actor_options": {"num_cpus": CPUS},
    "max_ongoing_requests": 256,  # above what may wait in the gateway itself, which refuses with problem details
    "max_queued_requests": 64,
    "backpressure_config": BackpressureConfig(status_code=429, retry_after_s=RETRY_AFTER),
    "logging_config": {"encoding": "JSON", "enable_access_log": False},  # the door writes a fuller line
}
RELEASE_OPTIONS: dict[str, Any] = {
    "num_replicas": 1,
    "ray_actor_options": {"num_cpus": 0},
    "max_ongoing_requests": 64,
    "logging_config": {"encoding": "JSON", "enable_access_log": False},
}


class _Follower:
    """A replica that opens what the release wants, when it starts and whenever it is asked for a model it lacks."""

    def __init__(self, release: DeploymentHandle[Any]) -> None:
        self._release = release
        self._catching_up: asyncio.Task[None] | None = None

    async def wanted(self) -> list[ModelRef]:
        return list(await asyncio.wait_for(self._release.wanted.remote(), LOADING_S))

    async def holding(self, stage: Stage, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except WrongVersion:
            if self._catching_up is None or self._catching_up.done():
                self._catching_up = asyncio.create_task(self.catch_up(stage))
            raise

    async def catch_up(self, stage: Stage) -> None:
        for model in await self.wanted():
            await stage.prepare(model)


class _StageReplica:
    """What the replicas of all stages share."""

    _stage: Stage
    _follower: _Follower
    _asked: str = ""

    async def prepare(self, model: ModelRef) -> None:
        await self._stage.prepare(model)

    async def ping(self, version: str) -> str:
        self._asked = await self._follower.holding(self._stage, lambda: self._stage.ping(version))
        return self._asked

    async def check_health(self) -> None:
        """Its threads still come to calls; before anybody asked there is nothing to check."""
        if self._asked:
            try:
                await asyncio.wait_for(self._stage.ping(self._asked), ANSWERING_S)
            except WrongVersion:
                self._asked = ""


class SourcesReplica(_StageReplica):
    """The sources of one deployment; opens no other part of the artifact."""

    async def __init__(self, release: DeploymentHandle[Any], deployment: str, apart: Sequence[str], threads: int) -> None:  # type: ignore[misc]
        self._sources = LocalSources(deployment, lambda artifact: placed(artifact, apart)[deployment], threads)
        self._stage, self._follower = self._sources, _Follower(release)
        await self._follower.catch_up(self._stage)

    async def retrieve(self, version: str, queries: Queries, n: int, within: float) -> Proposals:
        self._asked = version
        return await self._follower.holding(self._stage, lambda: self._sources.retrieve(version, queries, n, within))


class RankerReplica(_StageReplica):
    """Fusion, pair features and ranker; opens no index."""

    async def __init__(self, release: DeploymentHandle[Any]) -> None:  # type: ignore[misc]
        self._second = LocalRanker()
        self._stage, self._follower = self._second, _Follower(release)
        await self._follower.catch_up(self._stage)

    async def rank(
        self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], options: Sequence[RankOptions]
    ) -> list[RankedAnswer]:
        self._asked = version
        return await self._follower.holding(self._stage, lambda: self._second.rank(version, queries, retrieved, options))


class Remote:
    """A handle that looks like a stage. A call whose replica dies is made once more, of another one."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        fast = handle.options(request_serialization="pickle", response_serialization="pickle")
        self._ping, self._retrieve, self._rank = fast.ping, fast.retrieve, fast.rank  # each made once: making one is not free

    async def prepare(self, model: ModelRef) -> None:
        """Nothing: the release calls every replica itself."""

    async def ping(self, version: str) -> str:
        answer: str = await self._ping.remote(version)
        return answer

    async def retrieve(self, version: str, queries: Queries, n: int, within: float) -> Proposals:
        answer: Proposals = await _again_if_dead(lambda: self._retrieve.remote(version, queries, n, within))
        return answer

    async def rank(
        self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], options: Sequence[RankOptions]
    ) -> list[RankedAnswer]:
        answer: list[RankedAnswer] = await _again_if_dead(lambda: self._rank.remote(version, queries, retrieved, options))
        return answer


async def _again_if_dead(call: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call()
    except RayActorError:
        return await call()


class GatewayReplica:
    """HTTP ingress. With handles it calls other deployments; without, it holds every stage itself."""

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
            self._active = ActiveModel.of_one_process(limits, threads, self._telemetry)
        else:
            self._active = ActiveModel({name: Remote(handle) for name, handle in sources.items()}, Remote(ranker), limits, self._telemetry)
        await self._follow()
        self._following = asyncio.create_task(self._keep_following())

    def __serve_build_asgi_app__(self) -> ASGIApp:
        log_as_serve_does()
        return web_app(lambda: self._active.gateway, keys_of_environment(), tell_id=False, telemetry=self._telemetry)  # Serve tells it

    async def prepare(self, model: ModelRef) -> None:
        await self._active.prepare(model)

    async def activate(self, model: ModelRef) -> None:
        await self._active.activate(model)

    async def active_model(self) -> ModelRef | None:
        return self._active.model

    async def _follow(self) -> None:
        (served, *_) = await self._follower.wanted()
        await self._active.activate(served)

    async def _keep_following(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await asyncio.wait_for(self._follow(), LOADING_S)
            except Exception as error:  # whatever keeps it from knowing better, the model at hand goes on serving
                LOG.warning("the release does not answer: %s", reason(error))


class RemoteReplicas:
    """Every replica of one deployment of this application."""

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment

    async def prepare(self, model: ModelRef) -> None:
        await self._must_answer(_StageReplica.prepare, model)

    async def _must_answer(self, method: Callable[Concatenate[Any, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> list[T]:
        """As `_broadcast`; replicas that are late or gone are a SegueError."""
        try:
            return await _broadcast(self._deployment, LOADING_S, method, *args, **kwargs)
        except (DeploymentUnavailableError, TimeoutError) as error:
            raise SegueError(f"{self._deployment}: expected an answer of every replica, found {reason(error)}") from error


class RemoteGateways(RemoteReplicas):
    """Every replica of the gateway."""

    def __init__(self) -> None:
        super().__init__(GATEWAY)

    async def prepare(self, model: ModelRef) -> None:
        await self._must_answer(GatewayReplica.prepare, model)

    async def activate(self, model: ModelRef) -> None:
        await self._must_answer(GatewayReplica.activate, model)

    async def active_models(self) -> list[ModelRef]:
        try:
            models = await _broadcast(self._deployment, ANSWERING_S, GatewayReplica.active_model)
        except (DeploymentUnavailableError, TimeoutError):  # the gateways start after the rollout
            return []
        return [model for model in models if model is not None]


async def _broadcast(
    deployment: str, within: float, method: Callable[Concatenate[Any, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> list[T]:
    """What `method` returns in each replica; Serve wants its name, so that this is the one place where a name stands for it."""
    handle = serve.get_deployment_handle(deployment, serve.get_replica_context().app_name)
    response: Any = handle.broadcast(method.__name__, *args, **kwargs)
    results: list[T] = await asyncio.wait_for(response.results_async(), within)
    return results


class RolloutConfig(BaseModel):
    """The `user_config` of the release."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    artifact: str


class RolloutReplica:
    """Which model is served; `user_config` names its artifact, and so does `segue deploy`."""

    def __init__(self, stages: Sequence[str]) -> None:
        log_as_serve_does()
        self._release = Rollout([RemoteReplicas(stage) for stage in stages], RemoteGateways())
        self._started = False

    async def reconfigure(self, config: dict[str, str]) -> None:
        """Serve calls this when the replica starts, and again when `user_config` has changed: then it must not wait."""
        artifact = RolloutConfig.model_validate(config).artifact
        if self._started:
            self._changing = asyncio.create_task(self._release.change(artifact))
        else:
            await self._release.start(artifact)
            self._started = True

    async def wanted(self) -> tuple[ModelRef, ...]:
        return await self._release.wanted()

    async def deploy(self, path: str) -> ModelChange:
        return await self._release.deploy(path)


SOURCES_DEPLOYMENT: Deployment = serve.deployment(**STAGE)(SourcesReplica)
RANKER_DEPLOYMENT: Deployment = serve.deployment(**STAGE)(RankerReplica)
GATEWAY_DEPLOYMENT: Deployment = serve.deployment(**INGRESS)(serve.ingress()(GatewayReplica))
RELEASE_DEPLOYMENT: Deployment = serve.deployment(**RELEASE_OPTIONS)(RolloutReplica)
