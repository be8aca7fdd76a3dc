"""The service on a real Ray: both topologies answer over HTTP what the pipeline answers in process."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from engine.answer.resolve import resolve
from engine.model import Model
from engine.serve.app import ServeArgs, build_app
from engine.serve.haproxy import REQUEST_S
from engine.serve.ports import free_port
from engine.serve.service import running_service
from features.domain import Queries
from tests.engine.serve import listening

pytestmark = pytest.mark.cluster

FUSED = "/fused"


@pytest.fixture(scope="module")
def url(tiny_artifact: Path, ray_cluster: ModuleType) -> Iterator[str]:
    """The composed service at the root, the fused one of the same artifact below /fused."""
    from ray import serve

    with running_service(tiny_artifact, "composed", free_port()) as url:
        serve.run(build_app(ServeArgs(artifact=tiny_artifact, topology="fused")), name="fused", route_prefix=FUSED)
        yield url


def asked(model: Model) -> list[dict[str, Any]]:
    ids = model.names.vocabulary.ids
    playlist = model.names.playlists.ids[6]
    return [
        {"tracks": ids([3, 8, 21]), "k": 10},
        {"tracks": ids([40]), "title": "road trip", "k": 100},
        {"title": "jazz", "k": 7},
        {"playlist_id": playlist, "k": 500},
        {"tracks": [*ids([5]), "unknown"], "exclude": ids([0, 1, 2]), "k": 20},
        {},
    ]


def expected(model: Model, body: dict[str, Any]) -> list[str]:
    one = resolve(model.names, body.get("tracks", ()), body.get("playlist_id"), body.get("title"), body.get("exclude", ()))
    ranking = model.pipeline.recommend(Queries.of([one.query]), body.get("k", 10)).ranking
    return model.names.vocabulary.ids(ranking.tracks[0][ranking.tracks[0] >= 0])


def tracks(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    assert answer.json()["degraded"] == []
    return [track["track_id"] for track in answer.json()["tracks"]]


@pytest.mark.parametrize("prefix", ["", FUSED])
def test_http_answers_what_the_pipeline_answers(url: str, tiny_model: Model, prefix: str) -> None:
    with httpx.Client(base_url=url + prefix, timeout=30) as client:
        for body in asked(tiny_model):
            assert tracks(client.post("/v1/recommend", json=body)) == expected(tiny_model, body)


def test_many_at_once_each_get_their_own_answer(url: str, tiny_model: Model) -> None:
    async def together(bodies: list[dict[str, Any]]) -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            return await asyncio.gather(*(client.post("/v1/recommend", json=body) for body in bodies))

    bodies = asked(tiny_model) * 4
    for body, answer in zip(bodies, asyncio.run(together(bodies)), strict=True):
        assert set(tracks(answer)[:5]) <= set(expected(tiny_model, body)[:10])


@pytest.mark.parametrize("prefix", ["", FUSED])
def test_every_stage_answers_and_says_which_model(url: str, tiny_model: Model, prefix: str) -> None:
    with httpx.Client(base_url=url + prefix, timeout=30) as client:
        ready = client.get("/readyz").json()
        assert ready["ready"]
        assert set(ready["stages"]) == {*tiny_model.pipeline.sources, "ranker"}
        assert client.get("/v1/model").json()["version"] == ready["model"]["version"] == tiny_model.artifact.manifest.version
        assert client.get("/healthz").json() == {"status": "ok"}


def test_errors_keep_their_form_on_the_way_through_the_proxy(url: str) -> None:
    with httpx.Client(base_url=url, timeout=30) as client:
        for body, status in (({"k": 0}, 422), ({"colour": 1}, 422), ({"playlist_id": "nowhere"}, 404)):
            answer = client.post("/v1/recommend", json=body, headers={"x-request-id": "mine"})
            assert answer.status_code == answer.json()["status"] == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine"
        assert client.post("/v1/recommend", content=b" " * 2_000_000).status_code == 413


def test_every_port_is_open_on_the_loopback_interface_only(url: str) -> None:
    found = listening.addresses(listening.below(os.getpid()))
    assert urlsplit(url).port in {port for _, port in found}
    assert [(address, port) for address, port in found if not address.is_loopback] == []


def test_who_sends_half_a_body_is_sent_away_and_what_no_gateway_should_see_is_400(url: str) -> None:
    """HAProxy waits for a small body; a gateway for the rest of a large one."""
    where, start = urlsplit(url), time.monotonic()
    assert where.hostname
    asked = b"POST /v1/recommend HTTP/1.1\r\nhost: segue\r\ncontent-length: %d\r\n\r\n"
    stalled = [socket.create_connection((where.hostname, where.port or 0), timeout=4 * REQUEST_S) for _ in range(2)]
    for connection, sent in zip(stalled, (asked % 100 + b"{", asked % 500_000 + b" " * 300_000), strict=True):
        connection.sendall(sent)
    bad = httpx.get(f"{url}/v1/model", headers={"x-name": b"\xff"}, timeout=30)
    assert bad.status_code == bad.json()["status"] == 400
    for connection in stalled:
        with connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
            assert time.monotonic() - start < 3 * REQUEST_S
