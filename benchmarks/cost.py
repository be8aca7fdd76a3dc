"""What one client can cost all others: an ordinary client beside each of the most expensive valid requests, and too many clients at once.

Input: an artifact, whose own playlists and tracks are asked with. Output: tables, and one JSON with every figure. An ordinary
client asks for 10 tracks after 10 seeds, again and again: first alone, then beside another client that does the same with one of
the most expensive requests the service takes. Then more and more ordinary clients come at once, and four times the requests a second
as can be answered: how many are answered then, beside the most that ever were.

    segue bench cost ARTIFACT --out cost.json
"""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from benchmarks.load import Plan
from benchmarks.measure import Asking, Result
from benchmarks.systems import Given, started
from engine.answer.api import MAX_CANDIDATES, MAX_EXCLUDED, MAX_TRACKS
from engine.artifact import open_artifact
from engine.cli.bench import one_line_of
from engine.cli.console import show_rows, shown_progress
from engine.model import Names, open_names
from engine.provenance import provenance
from features.domain import MAX_ANSWER, SegueError
from features.progress import Progress

RECOMMEND = "/v1/recommend"
SEED = 0
ORDINARY_K, ORDINARY_SEEDS, ORDINARY_REQUESTS = 10, 10, 200
REFERENCE_CLIENTS = 64
OVERLOAD = 4
"""Times the most requests/s that were answered."""
PAUSE_S = 1.0
"""Between two measurements, so that the work of one is over before the next."""


def ordinary(names: Names) -> list[bytes]:
    """The beginnings of playlists that the model knows."""
    lengths = np.diff(names.playlists.tracks.offsets)
    long_enough = np.flatnonzero(lengths >= ORDINARY_SEEDS)
    if not len(long_enough):
        raise SegueError(f"artifact: expected a playlist of at least {ORDINARY_SEEDS} tracks, found none. Name a larger one")
    chosen = np.random.default_rng(SEED).choice(long_enough, ORDINARY_REQUESTS).tolist()
    seeds = (names.vocabulary.ids(names.playlists.tracks.row(row)[:ORDINARY_SEEDS]) for row in chosen)
    return [json.dumps({"tracks": ids, "k": ORDINARY_K}).encode() for ids in seeds]


def most_expensive(names: Names) -> dict[str, tuple[str, str, dict[str, Any] | None]]:
    """(method, path, body) of valid requests, each with something at its largest; the last has everything."""
    popular = names.vocabulary.ids(range(min(len(names.vocabulary), MAX_TRACKS + MAX_EXCLUDED + MAX_CANDIDATES)))
    seeds, rest = popular[:MAX_TRACKS], popular[MAX_TRACKS:]
    excluded, candidates, one = rest[:MAX_EXCLUDED], rest[:MAX_CANDIDATES], seeds[:1]
    filters = {"genre": [f"genre {i}" for i in range(99)] + ["rock"], "year": {"min": 0}, "tempo": {"min": 0}, "energy": {"min": 0}}
    posted: dict[str, tuple[str, dict[str, Any]]] = {
        "explain, 1 seed": (RECOMMEND, {"tracks": one, "k": MAX_ANSWER, "explain": True}),
        "explain, 1,000 seeds": (RECOMMEND, {"tracks": seeds, "k": MAX_ANSWER, "explain": True}),
        "1,000 seeds": (RECOMMEND, {"tracks": seeds, "k": MAX_ANSWER}),
        "1,000 seeds, k 10": (RECOMMEND, {"tracks": seeds, "k": ORDINARY_K}),
        "10,000 excluded": (RECOMMEND, {"tracks": one, "exclude": excluded, "k": MAX_ANSWER}),
        "diversity": (RECOMMEND, {"tracks": one, "k": MAX_ANSWER, "diversity": 0.5}),
        "filters": (RECOMMEND, {"tracks": one, "k": MAX_ANSWER, "filters": filters}),
        "1,000 candidates": ("/v1/rank", {"tracks": seeds, "candidates": candidates}),
        "everything": (
            RECOMMEND,
            {"tracks": seeds, "title": "road trip", "exclude": excluded, "filters": {"year": {"min": 0}}}
            | {"k": MAX_ANSWER, "diversity": 0.5, "explain": True},
        ),
    }
    search = "/v1/tracks?limit=100&q=" + quote(" ".join("abcdefghij"))
    return {"search": ("GET", search, None), **{name: ("POST", path, body) for name, (path, body) in posted.items()}}


class Loop:
    """A client that asks the same again and again."""

    def __init__(self, host: str, port: int, method: str, path: str, body: dict[str, Any] | None) -> None:
        self._address, self._request = (host, port), (method, path, json.dumps(body) if body else None)
        self._stop = threading.Event()
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()

    @contextmanager
    def running(self) -> Iterator[Loop]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        method, path, body = self._request
        while not self._stop.is_set():
            start = time.perf_counter()
            connection.request(method, path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            self.statuses[answer.status] += 1
            self.seconds.append(time.perf_counter() - start)
        connection.close()

    def figures(self) -> Result:
        return {"answers": dict(self.statuses), "mean_ms": round(1e3 * float(np.mean(self.seconds or [0])), 1)}


class Bench:
    """Of one run of the command."""

    def __init__(self, chosen: argparse.Namespace, url: str, report: Progress) -> None:
        self._chosen, self._report, where = chosen, report, urlsplit(url)
        self._host, self._port = str(where.hostname), int(where.port or 80)
        names = open_names(open_artifact(chosen.artifact, verify="size"))
        self._ordinary, self._most_expensive = ordinary(names), most_expensive(names)

    def beside_each(self) -> Result:
        """The ordinary client's latency alone, and beside each of the most expensive requests."""
        alone = self._asked("alone", clients=1)
        found: dict[str, Result] = {}
        for name, request in self._most_expensive.items():
            with Loop(self._host, self._port, *request).running() as loop:
                figures = self._asked(f"beside {name}", clients=1)
            found[name] = {**figures, "p99_times": round(figures["milliseconds"]["p99"] / alone["milliseconds"]["p99"], 2)}
            found[name]["expensive"] = loop.figures()
        return {"alone": alone, "beside": found}

    def overloaded(self) -> Result:
        """What is answered where more is asked than can be."""
        asked = {f"{count} clients": self._asked(f"{count} clients", clients=count) for count in self._chosen.clients}
        most = max(one["requests_per_second"] for one in asked.values())
        rate = f"{OVERLOAD} times the greatest rate"
        asked[rate] = self._asked(rate, rate=OVERLOAD * most)
        for one in asked.values():
            one["of_the_best"] = round(one["requests_per_second"] / most, 3)
        return asked

    def _asked(self, phase: str, clients: int = 1, rate: float | None = None) -> Result:
        self._report(phase, 0.0)
        time.sleep(PAUSE_S)
        plan = Plan(self._host, self._port, RECOMMEND, ORDINARY_K, self._chosen.seconds, 1.0, clients, rate, look_into=50)
        with Asking.started(plan, self._ordinary) as asking:
            asking.ended()
            figures = asking.figures()
        self._report(phase, 1.0, {"requests/s": figures["requests_per_second"]})
        return figures


def run(chosen: argparse.Namespace, report: Progress) -> Result:
    service: AbstractContextManager[str] = nullcontext(chosen.url) if chosen.url else _started(chosen)
    with service as url:
        bench = Bench(chosen, url, report)
        result = {"circumstances": provenance(), "seconds": chosen.seconds, **bench.beside_each(), "overload": bench.overloaded()}
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _started(chosen: argparse.Namespace) -> AbstractContextManager[str]:
    return started(chosen.topology, Given(chosen.artifact, None, chosen.port))


def show(result: Result) -> None:
    columns = ["an ordinary client", "p50 ms", "p99 ms", "times p99 alone", "the other: mean ms", "answers"]
    show_rows("beside the most expensive valid requests", columns, [_row("alone", result["alone"]), *_beside(result["beside"])])
    columns = ["asked by", "answered/s", "of the best", "p50 ms", "longest ms", "answers"]
    show_rows("too many at once", columns, [_overload(name, one) for name, one in result["overload"].items()])


def _beside(found: Mapping[str, Result]) -> Iterator[list[str | float | None]]:
    for name, one in found.items():
        yield _row(name, one)


def _row(name: str, one: Result) -> list[str | float | None]:
    latency, expensive = one["milliseconds"], one.get("expensive", {})
    return [name, latency["p50"], latency["p99"], one.get("p99_times"), expensive.get("mean_ms"), _statuses(expensive.get("answers", {}))]


def _overload(name: str, one: Result) -> list[str | float | None]:
    latency = one["milliseconds"]
    statuses = _statuses(one["statuses"])
    return [name, one["requests_per_second"], one["of_the_best"], latency.get("p50"), latency.get("longest"), statuses]


def _statuses(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(counts.items(), key=str))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--topology", choices=["composed", "fused"], default="composed")
    parser.add_argument("--url", help="of a service of this artifact that runs already; without it one is started")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--clients", type=lambda text: [int(part) for part in text.split(",")], default="64,256,600", metavar="N,…")
    parser.add_argument("--out", type=Path, default=Path("cost.json"))
    parser.add_argument("--port", type=int, default=8124)
    return parser


def main() -> None:
    chosen = _arguments().parse_args()
    with one_line_of("cost"), shown_progress() as report:
        result = run(chosen, report)
    show(result)


if __name__ == "__main__":
    main()
