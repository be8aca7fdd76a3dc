"""Which model is served, and how the next one takes over without a gap.

Input: the path of an artifact, and a way to call every replica of a deployment. Output: first every stage, then every gateway
has opened and tried the new model beside the old one; only then do the gateways turn to it. A model that cannot be checked,
opened or asked is refused, and the old one keeps serving. A process that starts or falls behind asks here what to open.
Knows no Ray.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.serve.local_stages import reason
from engine.serve.model_cache import ModelRef, checked
from features.domain import SegueError

LOG = logging.getLogger("segue")


class Replicas(Protocol):
    """All replicas of one deployment; what fails in one of them is raised."""

    async def prepare(self, model: ModelRef) -> None:
        """Every replica opens the model beside the one that it serves."""
        ...


class GatewayReplicas(Replicas, Protocol):
    """All replicas of the gateway."""

    async def activate(self, model: ModelRef) -> None:
        """Every replica answers with this model from now on."""
        ...

    async def active_models(self) -> list[ModelRef]:
        """The models that the replicas answer with; empty where no replica has one yet."""
        ...


@dataclass(frozen=True)
class ModelChange:
    """The outcome of a deployment: the version that is served now, and the version that was served before it."""

    version: str
    previous: str


class Rollout:
    """One at a time: a second deployment is refused while one is under way."""

    def __init__(self, stages: Sequence[Replicas], gateways: GatewayReplicas) -> None:
        """`stages`: the deployments that hold parts of a model; none where the gateway holds all of it."""
        self._stages, self._gateways = tuple(stages), gateways
        self._serving: ModelRef | None = None
        self._next: ModelRef | None = None
        self._known = asyncio.Event()
        self._changing = asyncio.Lock()

    async def start(self, path: str) -> None:
        """Serves what the gateways already do, where this process is not the first of its kind; else the artifact at `path`."""
        found = await self._gateways.active_models()
        self._serving = found[0] if found else await asyncio.to_thread(checked, path)
        self._known.set()

    async def wanted(self) -> tuple[ModelRef, ...]:
        """The model that is served and, where one is on its way, the next one."""
        await self._known.wait()
        return tuple(model for model in (self._serving, self._next) if model is not None)

    async def deploy(self, path: str) -> ModelChange:
        """The artifact at `path` takes over; a SegueError leaves everything as it was."""
        if self._changing.locked():
            raise SegueError("deploy: expected no other change of models under way, found one. Try again when it is through")
        async with self._changing:
            (before, *_) = await self.wanted()
            model = await asyncio.to_thread(checked, path)
            if model.version != before.version:
                await self._take_over(model)
            return ModelChange(model.version, before.version)

    async def _take_over(self, model: ModelRef) -> None:
        self._next = model
        try:
            await asyncio.gather(*(stage.prepare(model) for stage in self._stages))
            await self._gateways.prepare(model)
            self._serving = model
        finally:
            self._next = None
        await self._gateways.activate(model)
        LOG.info("model %s from %s is served", model.version, model.path)

    async def change(self, path: str) -> None:
        """As `deploy`, for whoever cannot be told how it went."""
        try:
            await self.deploy(path)
        except Exception as error:  # whatever is wrong with the new model, the old one keeps serving
            LOG.error("%s is not served: %s", path, reason(error))
