"""A Serve application of the composed shape that computes nothing: the overhead of Ray and HTTP.

Input: a request as the service takes it. Output: `k` places that stand for tracks. Three retrievers are asked at once and then
a ranker, one call each for every request and nothing in batches. Knows no model.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of a class that Serve copies.

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve
from ray.serve.handle import DeploymentHandle

from engine.local_ray import LOOPBACK
from engine.serve import cluster

APP = "noop"
RETRIEVERS = ("first", "second", "third")
REPLICA: dict[str, Any] = {
    "ray_actor_options": {"num_cpus": 0.1},
    "max_ongoing_requests": 256,
    "logging_config": {"enable_access_log": False},
}
web = FastAPI()


class Request(BaseModel):
    tracks: list[str] = []
    title: str = ""
    k: int = 10


@serve.deployment(**REPLICA)
class Stage:
    async def __call__(self, k: int) -> list[int]:
        return list(range(k))


@serve.deployment(name="gateway", **REPLICA)
@serve.ingress(web)
class Gateway:
    def __init__(self, retrievers: list[DeploymentHandle], ranker: DeploymentHandle) -> None:
        self._retrievers, self._ranker = retrievers, ranker

    @web.post("/v1/recommend")
    async def recommend(self, asked: Request) -> dict[str, Any]:
        proposed = await asyncio.gather(*(retriever.remote(asked.k) for retriever in self._retrievers))
        return {"tracks": await self._ranker.remote(len(proposed[0])), "degraded": []}


@contextmanager
def running(port: int) -> Iterator[str]:
    """Its base URL; Ray is started for it and stopped after it."""
    with cluster.environment(), cluster.ray_cluster() as started_ray, cluster.ray_serve(port, started_ray):
        retrievers = [Stage.options(name=name).bind() for name in RETRIEVERS]
        serve.run(Gateway.bind(retrievers, Stage.options(name="ranker").bind()), name=APP, route_prefix="/")
        yield f"http://{LOOPBACK}:{port}"
