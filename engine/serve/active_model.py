"""Which gateway answers: one reference, exchanged whole. Requests under way keep the one they began with.

Input: the stages, here or elsewhere, models to open, and one to turn to. Output: the gateway of the model that is served.
Knows neither HTTP nor Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from engine.artifact import Artifact
from engine.model import source_names
from engine.serve.gateway import Gateway
from engine.serve.local_stages import LocalRanker, LocalSources, RankerStage, SourcesStage
from engine.serve.model_cache import ModelCache, ModelRef
from engine.serve.orchestrator import Limits, SourceGroup
from engine.serve.placement import SHARED, placed
from engine.serve.telemetry import NoTelemetry, Telemetry
from features.domain import SegueError


class ActiveModel:
    """The gateways of the models that this process holds."""

    def __init__(
        self, sources: Mapping[str, SourcesStage], ranker: RankerStage, limits: Limits, telemetry: Telemetry | None = None
    ) -> None:
        """`sources` by deployment, the shared one among them."""
        self._sources, self._ranker, self._limits = dict(sources), ranker, limits
        self._telemetry: Telemetry = telemetry or NoTelemetry()
        self._versions = ModelCache("gateway", self._open)
        self._gateway: Gateway | None = None
        self.model: ModelRef | None = None
        """The one that is served."""

    @classmethod
    def of_one_process(cls, limits: Limits, threads: int, telemetry: Telemetry | None = None) -> ActiveModel:
        """Every stage in this process."""
        return cls({SHARED: LocalSources(SHARED, source_names, threads)}, LocalRanker(), limits, telemetry)

    @property
    def gateway(self) -> Gateway:
        if self._gateway is None:
            raise SegueError("gateway: expected a model, found none yet. Ask again later")
        return self._gateway

    async def prepare(self, model: ModelRef) -> None:
        """Opens the model and asks it a first question through every stage; one that does not answer is a SegueError."""
        await self._hold(model)
        await self._versions.of(model.version).warm()

    async def activate(self, model: ModelRef) -> None:
        """From now on requests are answered by this model; it is opened where it was not."""
        if self.model != model:
            await self._hold(model)
            self._gateway, self.model = self._versions.of(model.version), model
            self._telemetry.model(model.version)

    async def _hold(self, model: ModelRef) -> None:
        await asyncio.gather(*(stage.prepare(model) for stage in (*self._sources.values(), self._ranker)))
        await self._versions.prepare(model)

    def _open(self, artifact: Artifact) -> Gateway:
        apart = [name for name in self._sources if name != SHARED]
        groups = [SourceGroup(names, self._sources[name]) for name, names in placed(artifact, apart).items() if names]
        return Gateway.open(artifact, groups, self._ranker, self._limits, self._telemetry)
