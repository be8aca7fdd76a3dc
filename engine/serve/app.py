"""The Ray Serve application of one artifact: its arguments, and which deployments it consists of.

Input: ServeArgs, from `args:` in serve_config.yaml or from the command line. Output: the application that Serve runs. The artifact
is checked in full here, once, before any replica opens it. Importing this module starts nothing. Independent of training.
"""

# No `from __future__ import annotations`: Serve needs build_app's annotation as a class, to validate the arguments of the YAML file.

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.artifact import open_artifact
from engine.model import RANKER
from engine.serve.api_keys import keys_from_environment
from engine.serve.orchestrator import Limits
from engine.serve.placement import GATEWAY, RELEASE, SHARED, large_sources

if TYPE_CHECKING:
    from ray.serve import Application

Topology = Literal["composed", "fused"]
MAX_FUSED_REPLICAS = 4
"""Where `replicas` is not given."""


class ServeArgs(BaseModel):
    """The arguments of the application; an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    artifact: Path
    """The same path on every node."""
    topology: Topology = "composed"
    """composed: deployments that scale separately; fused: everything in each replica."""
    apart: tuple[str, ...] | None = None
    """composed: the sources with a deployment of their own; the others share one. null: the large ones (engine.serve.placement)."""
    replicas: int | None = Field(None, ge=1, le=64)
    """Of every deployment but `release`; `deployments:` in the YAML says it for one of them. null: 1; fused: one a core, at most 4."""
    threads: int | None = Field(None, ge=1, le=64)
    """Threads in which a replica runs its sources for a lone query; a batch uses one. null: 1; fused: 2."""
    max_batch: int | None = Field(None, ge=1, le=256)
    """Queries in a batch, at most. null: 8, since smaller batches leave no stage without work; fused: 16."""
    in_flight: int | None = Field(None, ge=1, le=16)
    """Batches that run at once in each gateway replica. null: 3, one each for sources, ranker and gateway; fused: 1."""
    max_waiting: int = Field(128, ge=1, le=10_000)
    """What may wait in each gateway replica, in ordinary requests; one more is answered 429. Large requests have a queue of their own."""
    source_timeout_s: float = Field(1.0, gt=0, allow_inf_nan=False)
    """A source that takes longer is left out of the answer, which names it in `degraded`."""
    ranker_timeout_s: float = Field(2.0, gt=0, allow_inf_nan=False)
    """If the ranker takes longer, the answer is in the order of rank fusion."""
    deadline_s: float = Field(5.0, gt=0, allow_inf_nan=False)
    """If a whole request, from its arrival, takes longer, it is answered 504."""

    def num_replicas(self) -> int:
        return self.replicas or (min(os.cpu_count() or 1, MAX_FUSED_REPLICAS) if self.topology == "fused" else 1)

    def num_threads(self) -> int:
        return self.threads or (2 if self.topology == "fused" else 1)

    def limits(self) -> Limits:
        max_batch, in_flight = (16, 1) if self.topology == "fused" else (8, 3)
        return Limits(
            max_batch=self.max_batch or max_batch,
            in_flight=self.in_flight or in_flight,
            max_waiting=self.max_waiting,
            source_timeout_s=self.source_timeout_s,
            ranker_timeout_s=self.ranker_timeout_s,
            deadline_s=self.deadline_s,
        )


def build_app(args: ServeArgs) -> "Application":
    """The application of one artifact; a damaged artifact is a SegueError, before anything starts."""
    from engine.serve.deployments import GATEWAY_DEPLOYMENT, RANKER_DEPLOYMENT, RELEASE_DEPLOYMENT, SOURCES_DEPLOYMENT

    keys_from_environment()  # a key file that cannot be read is an error here, not in every gateway
    artifact, limits = open_artifact(args.artifact), args.limits()
    replicas, threads = args.num_replicas(), args.num_threads()
    apart = large_sources(artifact) if args.apart is None else args.apart
    stages = () if args.topology == "fused" else (*apart, SHARED, RANKER)
    release = RELEASE_DEPLOYMENT.options(name=RELEASE, user_config={"artifact": str(artifact.path.resolve())}).bind(stages)
    gateway = GATEWAY_DEPLOYMENT.options(name=GATEWAY, num_replicas=replicas)
    if args.topology == "fused":
        return gateway.bind(release, limits, threads)
    deployments = {name: SOURCES_DEPLOYMENT.options(name=name, num_replicas=replicas) for name in (*apart, SHARED)}
    sources = {name: deployment.bind(release, name, apart, threads) for name, deployment in deployments.items()}
    ranker = RANKER_DEPLOYMENT.options(name=RANKER, num_replicas=replicas).bind(release)
    return gateway.bind(release, limits, threads, sources, ranker)
