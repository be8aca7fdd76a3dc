"""What happens to those who ask while replicas are killed and models are exchanged, on a real Ray."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import httpx
import pytest

from engine.answer.resolve import ask
from engine.model import Model, open_model
from engine.serve.app import deploy, running_service
from features.domain import Queries
from tests.engine import hostile
from tests.engine.load import asking, replicas
from tests.engine.serve.test_serve_cluster import _free_port

pytestmark = pytest.mark.cluster

BODY = {"title": "road trip", "k": 10}
DEPLOYMENTS = ("als", "sources", "ranker", "gateway", "release")


@pytest.fixture(scope="module")
def models(tiny_artifact: Path, other_artifact: Path) -> dict[str, Model]:
    return {model.artifact.manifest.version: model for model in (open_model(tiny_artifact), open_model(other_artifact))}


@pytest.fixture(scope="module")
def first(models: dict[str, Model]) -> dict[str, list[str]]:
    """By version, how the answer begins."""
    return {version: answer(model) for version, model in models.items()}


def answer(model: Model) -> list[str]:
    query = ask(model.names, title=BODY["title"]).query  # type: ignore[arg-type]
    return model.names.vocabulary.ids(model.pipeline.recommend(Queries.of([query]), 10).ranking.tracks[0][:3])


@pytest.fixture(scope="module")
def url(tiny_artifact: Path, ray_cluster: ModuleType) -> Iterator[str]:
    """Two replicas of everything."""
    with running_service(tiny_artifact, "composed", _free_port(), apart=("als",), replicas=2) as url:
        yield url


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"expected {what} within {seconds} s"
        time.sleep(0.2)


def is_whole(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def test_ten_models_take_over_under_load_and_nobody_notices(
    url: str, tiny_artifact: Path, other_artifact: Path, first: dict[str, list[str]]
) -> None:
    with asking(url, BODY, first) as heard:
        for turn in range(10):
            deploy((other_artifact, tiny_artifact)[turn % 2])
    assert (heard.failures, heard.wrong, heard.missing) == ([], [], set())
    assert heard.versions == set(first)


def test_a_damaged_model_is_refused_on_the_command_line_and_in_the_cluster(url: str, tiny_artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = subprocess.run(
        [sys.executable, "-m", "engine", "deploy", str(tmp_path / "empty")], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert is_whole(url)


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_of_two_replicas_one_may_die_and_no_request_fails(url: str, first: dict[str, list[str]], deployment: str) -> None:
    before = replicas(os.getpid(), deployment)
    assert len(before) == (1 if deployment == "release" else 2)
    with asking(url, BODY, first) as heard:
        time.sleep(1)
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(set(replicas(os.getpid(), deployment)) - set(before[:1])) == len(before), f"another {deployment}")
        wait_until(lambda: is_whole(url), "every stage")
        time.sleep(1)
    cut = [failure for failure in heard.failures if "IncompleteRead" in failure]  # it died between an answer's first byte and its last
    assert len(cut) <= (1 if deployment == "gateway" else 0)
    assert (sorted(set(heard.failures) - set(cut)), heard.wrong) == ([], [])
    assert sum(heard.answers.values()) > 50


def test_hostile_requests_are_refused_and_leave_no_trace(url: str, first: dict[str, list[str]], tiny_model: Model) -> None:
    """2,000 of them here; SEGUE_HOSTILE says how many else."""
    where, wrong = urlsplit(url), list[str]()
    page = httpx.get(f"{url}/openapi.json", timeout=30).json()
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
    for method, path, headers, body in islice(hostile.requests(page, seed=0), int(os.environ.get("SEGUE_HOSTILE", "2000"))):
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            told = answer.read()
        except (OSError, http.client.HTTPException):  # a body too large is refused before it is read
            connection.close()
            continue
        if answer.status >= 500:
            wrong.append(f"{method} {path[:80]} {body[:200]!r}: {answer.status} {told[:200]!r}")
    connection.close()
    for garbage in hostile.RAW:
        assert not hostile.send_raw(where.hostname or "", where.port or 0, garbage).startswith(b"HTTP/1.1 5")
    assert wrong == []
    answer = httpx.post(f"{url}/v1/recommend", json=BODY, timeout=30).json()
    assert [track["track_id"] for track in answer["tracks"]][:3] == first[answer["model"]["version"]]
    assert answer["degraded"] == []
