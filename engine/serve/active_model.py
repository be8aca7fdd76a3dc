"""The active model: which gateway answers now.

Input: the stages, in this process or in others, models to open, and one to activate. Output: the gateway of the active model. It
is replaced as a whole; requests that are being answered keep the gateway they began with. Independent of HTTP and of Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from engine.artifact import Artifact
from engine.model import source_names
from engine.serve.gateway import Gateway
from engine.serve.local_stages import LocalRanker, LocalSources
from engine.serve.model_cache import ModelCache, ModelRef
from engine.serve.orchestrator import Limits, SourceGroup
from engine.serve.placement import SHARED, sources_by_deployment
from engine.serve.protocols import RankerStage, SourcesStage
from engine.serve.telemetry import NoTelemetry, Telemetry
from features.domain import SegueError


class ActiveModel:
    """The gateways of the models that are open in this process, one of which is active."""

    def __init__(
        self, sources: Mapping[str, SourcesStage], ranker: RankerStage, limits: Limits, telemetry: Telemetry | None = None
    ) -> None:
        """`sources` by deployment, the shared one among them."""
        self._sources, self._ranker, self._limits = dict(sources), ranker, limits
        self._telemetry: Telemetry = telemetry or NoTelemetry()
        self._gateways = ModelCache("gateway", self._open_gateway)
        self._gateway: Gateway | None = None
        self.model: ModelRef | None = None
        """The active one; None before the first is activated."""

    @classmethod
    def in_process(cls, limits: Limits, threads: int, telemetry: Telemetry | None = None) -> ActiveModel:
        """With every stage in this process."""
        return cls({SHARED: LocalSources(SHARED, source_names, threads)}, LocalRanker(), limits, telemetry)

    @property
    def gateway(self) -> Gateway:
        if self._gateway is None:
            raise SegueError("gateway: expected a model, found none yet. Ask again later")
        return self._gateway

    async def prepare(self, model: ModelRef) -> None:
        """Opens the model and answers a first request through every stage; a stage that fails is a SegueError."""
        await self._open(model)
        await self._gateways.get(model.version).warm()

    async def activate(self, model: ModelRef) -> None:
        """Requests are answered by this model from now on; it is opened where it was not."""
        if self.model != model:
            await self._open(model)
            self._gateway, self.model = self._gateways.get(model.version), model
            self._telemetry.record_model(model.version)

    async def _open(self, model: ModelRef) -> None:
        await asyncio.gather(*(stage.prepare(model) for stage in (*self._sources.values(), self._ranker)))
        await self._gateways.prepare(model)

    def _open_gateway(self, artifact: Artifact) -> Gateway:
        apart = [name for name in self._sources if name != SHARED]
        groups = [SourceGroup(names, self._sources[name]) for name, names in sources_by_deployment(artifact, apart).items() if names]
        return Gateway.open(artifact, groups, self._ranker, self._limits, self._telemetry)
