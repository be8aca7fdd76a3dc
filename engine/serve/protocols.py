"""The calls between the parts of the service: to a stage of a model, and to all replicas of a deployment.

A stage may run in this process (`engine.serve.local_stages`) or behind a Ray Serve handle (`engine.serve.deployments`): the
methods are the same. Every call names the model version that it is meant for. Independent of HTTP and of Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.answer.ranking import RankedAnswer, RankOptions
from engine.serve.model_cache import ModelRef
from features.domain import Queries, Retrieved


@dataclass(frozen=True)
class Terms:
    """On which a stage computes."""

    timeout: float
    """Seconds; afterwards nobody waits for the result, and work that is not done is not begun."""
    large: bool = False
    """In the threads for expensive requests, one batch at a time, which keep no ordinary one waiting."""


@dataclass(frozen=True)
class Proposals:
    """The answer of one or more sources to a batch."""

    retrieved: Mapping[str, Retrieved]
    """By source."""
    failures: Mapping[str, str]
    """By source that did not answer: why, in one line."""
    seconds: Mapping[str, float]
    """By source: how long it took."""


class Stage(Protocol):
    """A part of a model, of one or more model versions."""

    async def prepare(self, model: ModelRef) -> None:
        """Opens this part of the model beside those that are open; afterwards calls may name its version."""
        ...

    async def ping(self, version: str) -> str:
        """`version`, as soon as a thread of the stage is free; WrongVersion where that version is not open."""
        ...


class SourcesStage(Stage, Protocol):
    """Some of a model's sources."""

    async def retrieve(self, version: str, queries: Queries, n: int, terms: Terms) -> Proposals:
        """The first `n` proposals of each source that answers in time."""
        ...


class RankerStage(Stage, Protocol):
    """The second stage of a model."""

    async def rank(
        self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], rank_options: Sequence[RankOptions], terms: Terms
    ) -> list[RankedAnswer]: ...


class Replicas(Protocol):
    """All replicas of one deployment; an error in one of them is raised."""

    async def prepare(self, model: ModelRef) -> None:
        """Every replica opens its part of the model beside the one that it serves."""
        ...


class GatewayReplicas(Replicas, Protocol):
    """All replicas of the gateway."""

    async def activate(self, model: ModelRef) -> None:
        """Every replica answers with this model from now on."""
        ...

    async def active_models(self) -> list[ModelRef]:
        """The models that the replicas answer with; empty where no replica has one yet."""
        ...


def last_line(error: BaseException) -> str:
    """The error in one line: the last one, since errors from other processes begin with a traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
