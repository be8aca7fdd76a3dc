"""Clients that keep asking while something happens to the service, and what they were answered."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from benchmarks import processes


@dataclass
class Heard:
    """Every answer's version and what was missing from it; every failure."""

    answers: Counter[tuple[str, tuple[str, ...]]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Answers that name none of the expected tracks first."""

    @property
    def versions(self) -> set[str]:
        return {version for version, _ in self.answers}

    @property
    def missing(self) -> set[str]:
        return {name for _, degraded in self.answers for name in degraded}


@contextmanager
def asking(url: str, body: dict[str, Any], first: dict[str, list[str]], clients: int = 4) -> Iterator[Heard]:
    """`first`: by version, the tracks that must lead an answer from which nothing is missing."""
    heard, stop = Heard(), threading.Event()
    threads = [threading.Thread(target=_ask, args=(url, json.dumps(body), first, heard, stop)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield heard
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def _ask(url: str, body: str, first: dict[str, list[str]], heard: Heard, stop: threading.Event) -> None:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
    while not stop.is_set():
        try:
            connection.request("POST", "/v1/recommend", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            told = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            heard.failures.append(repr(error))
            connection.close()
            continue
        if answer.status != 200:
            heard.failures.append(f"{answer.status} {told}")
            continue
        version, degraded = told["model"]["version"], tuple(told["degraded"])
        heard.answers[version, degraded] += 1
        tracks = [track["track_id"] for track in told["tracks"]]
        if not degraded and tracks[: len(first[version])] != first[version]:
            heard.wrong.append(f"{version}: {tracks}")
        time.sleep(0.005)
    connection.close()


def replicas(ancestor: int, deployment: str, app: str = "segue") -> list[int]:
    """The process ids of a deployment's replicas among the descendants of the process `ancestor`."""
    below = processes.descendants(processes.running(), ancestor)
    return [process.pid for process in below if f"ServeReplica:{app}:{deployment}" in process.command]
