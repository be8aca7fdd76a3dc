"""Rollout: which model is served, and how the next one replaces it without a gap.

Input: the path of an artifact, and the replicas of each deployment. Output: the new model is tried in a process of its own, which a
bad one may end; then every stage and after them every gateway opens and tries it beside the old one; only then do the gateways
activate it. A model that cannot be checked, opened or used is refused, and the old one is still served. A replica that starts or
missed a rollout asks here what to open. Independent of Ray.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.serve.model_cache import ModelRef, check_artifact
from engine.serve.protocols import GatewayReplicas, Replicas, last_line
from engine.trial import tried_apart
from features.domain import SegueError

LOG = logging.getLogger("segue")


@dataclass(frozen=True)
class ModelChange:
    """The outcome of a rollout: the version that is served now, and the version that was served before it."""

    version: str
    previous: str


class Rollout:
    """Replaces the model that is served; a second rollout is refused while one is under way."""

    def __init__(self, stages: Sequence[Replicas], gateways: GatewayReplicas, try_out: Callable[[Path], None] = tried_apart) -> None:
        """`stages`: the deployments of sources and ranker; none where the gateway holds the whole model. `try_out` raises a SegueError
        for a model that may not be opened here."""
        self._stages, self._gateways, self._try_out = tuple(stages), gateways, try_out
        self._serving: ModelRef | None = None
        self._next: ModelRef | None = None
        self._started = asyncio.Event()
        self._lock = asyncio.Lock()

    async def start(self, path: str) -> None:
        """Serves the model that the gateways already serve, where this replica replaces one that died; else the artifact at `path`."""
        active = await self._gateways.active_models()
        self._serving = active[0] if active else await asyncio.to_thread(check_artifact, path)
        self._started.set()

    async def models(self) -> tuple[ModelRef, ...]:
        """The model that is served and, while a rollout is under way, the next one: what every replica has to open."""
        await self._started.wait()
        return tuple(model for model in (self._serving, self._next) if model is not None)

    async def deploy(self, path: str) -> ModelChange:
        """Serves the artifact at `path` instead; a SegueError leaves everything as it was."""
        if self._lock.locked():
            raise SegueError("deploy: expected no other change of models under way, found one. Try again when it is through")
        async with self._lock:
            (previous, *_) = await self.models()
            model = await asyncio.to_thread(check_artifact, path)
            if model.version != previous.version:
                await asyncio.to_thread(self._try_out, Path(model.path))
                await self._replace(model)
            return ModelChange(model.version, previous.version)

    async def _replace(self, model: ModelRef) -> None:
        self._next = model
        try:
            await asyncio.gather(*(stage.prepare(model) for stage in self._stages))
            await self._gateways.prepare(model)
            self._serving = model
        finally:
            self._next = None
        await self._gateways.activate(model)
        LOG.info("model %s from %s is served", model.version, model.path)

    async def deploy_or_log(self, path: str) -> None:
        """As `deploy`, where nobody waits for the outcome: an error is logged."""
        try:
            await self.deploy(path)
        except Exception as error:  # whatever is wrong with the new model, the old one is still served
            LOG.error("%s is not served: %s", path, last_line(error))
