"""How fast the service answers: percentiles at one client, requests a second at many, for each topology.

Input: an artifact and a challenge file whose playlists are asked over HTTP on the loopback interface. Output: one JSON
with every figure and the circumstances it was measured under. The clients share the machine with the service, so that
figures are a lower bound.

    python -m benchmarks.serving ARTIFACT --challenge challenge_dev.json --out serving.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from engine.circumstances import circumstances
from engine.serve import Topology, running_service

TOPOLOGIES: tuple[Topology, ...] = ("composed", "fused")
PERCENTILES = (50, 90, 99)


@dataclass
class Measured:
    """What one run of requests came to."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    degraded: int = 0
    wall: float = 0.0

    def figures(self) -> dict[str, Any]:
        milliseconds = np.array(self.seconds) * 1e3
        errors = sum(count for status, count in self.statuses.items() if status != "200")
        return {
            "requests": len(self.seconds),
            "milliseconds": {f"p{p}": round(float(np.percentile(milliseconds, p)), 2) for p in PERCENTILES},
            "requests_per_second": round(len(self.seconds) / self.wall, 1),
            "errors": errors,
            "degraded": self.degraded,
            "statuses": self.statuses,
        }


def bodies(challenge: Path, k: int) -> list[dict[str, Any]]:
    """One request a playlist: its visible tracks and its title."""
    playlists = json.loads(challenge.read_text(encoding="utf-8"))["playlists"]
    return [
        {"tracks": [one["track_uri"] for one in playlist["tracks"]], "title": playlist.get("name", ""), "k": k} for playlist in playlists
    ]


async def replay(url: str, asked: Sequence[dict[str, Any]], clients: int, requests: int) -> Measured:
    """`clients` ask one after the other without a pause until `requests` are answered."""
    measured = Measured()
    contents = [json.dumps(body).encode() for body in asked]
    line = iter(islice(cycle(contents), requests))
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        start = time.perf_counter()
        await asyncio.gather(*(_one_client(client, line, measured) for _ in range(clients)))
        measured.wall = time.perf_counter() - start
    return measured


async def _one_client(client: httpx.AsyncClient, line: Iterator[bytes], measured: Measured) -> None:
    for content in line:
        start = time.perf_counter()
        answer = await client.post("/v1/recommend", content=content, headers={"content-type": "application/json"})
        measured.seconds.append(time.perf_counter() - start)
        status = str(answer.status_code)
        measured.statuses[status] = measured.statuses.get(status, 0) + 1
        measured.degraded += status == "200" and bool(answer.json()["degraded"])


def measure(artifact: Path, topology: Topology, asked: Sequence[dict[str, Any]], requests: int, port: int) -> dict[str, Any]:
    """Of one topology at 1, 4, 16 and 32 clients, after a warm-up."""
    with running_service(artifact, topology, port) as url:
        asyncio.run(replay(url, asked, 4, 100))
        return {f"clients={clients}": asyncio.run(replay(url, asked, clients, requests)).figures() for clients in (1, 4, 16, 32)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--challenge", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("serving.json"))
    parser.add_argument("--requests", type=int, default=480)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--topology", choices=TOPOLOGIES, nargs="*", default=TOPOLOGIES)
    chosen = parser.parse_args()
    asked = bodies(chosen.challenge, chosen.k)
    figures = {topology: measure(chosen.artifact, topology, asked, chosen.requests, chosen.port) for topology in chosen.topology}
    result = {"circumstances": circumstances(), "k": chosen.k, "playlists": len(asked), "figures": figures}
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
