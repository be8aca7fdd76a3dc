"""How fast the service answers, what that costs, and how it stands beside what else could have been built.

Input: an artifact and a challenge file whose playlists are asked over HTTP on the loopback interface. Output: tables, and one
JSON with every figure and the circumstances it was measured under. One after the other, each system (both topologies of the
service, and two baselines) is asked by a fixed number of clients without a pause, and then at fixed rates, which are shares of
what 16 clients reached. The clients share the machine with what they ask, so that figures are a lower bound.

    segue bench serving ARTIFACT --challenge challenge_dev.json --dataset dataset --out serving.json
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks import targets
from benchmarks.load import Plan
from benchmarks.measure import Result, measured, soak
from benchmarks.systems import SYSTEMS, Given, started
from engine.artifact import open_artifact
from engine.cli.bench import one_line_of
from engine.cli.console import show_rows, shown_progress
from engine.model import source_names
from engine.provenance import provenance
from features.domain import SegueError
from features.progress import Progress

ENDPOINT = "/v1/recommend"
SEED = 0
"""Of the order in which the playlists are asked: a challenge file has the easy ones first."""
RATES_OF = 16
"""Clients; rates are shares of the requests/s that so many reached."""
SOAK_SHARE = 0.5
LOOK_INTO = 50_000
"""About so many answers of a measurement are read; more are not held in memory."""


def bodies(challenge: Path, k: int) -> list[bytes]:
    """One request a playlist: its visible tracks and its title."""
    if not challenge.is_file():
        raise SegueError(f"{challenge}: expected a challenge file, found no file of that name. Name the playlists to ask with")
    playlists = json.loads(challenge.read_text(encoding="utf-8"))["playlists"]
    random.Random(SEED).shuffle(playlists)
    asked = ({"tracks": [one["track_uri"] for one in each["tracks"]], "title": each.get("name", ""), "k": k} for each in playlists)
    return [json.dumps(one).encode() for one in asked]


def described(requests: Sequence[bytes], k: int) -> Result:
    """Of what is asked, in figures."""
    asked = [json.loads(request) for request in requests]
    seeds = [len(one["tracks"]) for one in asked]
    return {
        "endpoint": ENDPOINT,
        "k": k,
        "playlists": len(asked),
        "seeds": {"mean": round(float(np.mean(seeds)), 1), "median": float(np.median(seeds)), "most": max(seeds)},
        "without_seeds": seeds.count(0),
        "with_title": sum(bool(one["title"]) for one in asked),
        "mean_bytes": round(float(np.mean([len(request) for request in requests]))),
    }


class Bench:
    """Of one run of the command: what is asked, for how long, and who is told."""

    def __init__(self, chosen: argparse.Namespace, report: Progress) -> None:
        self._chosen, self._report = chosen, report
        self.given = Given(chosen.artifact, chosen.dataset, chosen.port)
        self.requests = bodies(chosen.challenge, chosen.k)

    def system(self, name: str) -> Result:
        """Everything asked of one system; the soak at last, of the first one."""
        self._report(f"{name}: starting", 0.0)
        start = time.perf_counter()
        with started(name, self.given) as url:
            self._report(f"{name}: starting", 1.0)
            result: Result = {"what": SYSTEMS[name], "start_seconds": round(time.perf_counter() - start, 1), "clients": {}, "rates": {}}
            for clients in self._chosen.clients:
                result["clients"][str(clients)] = self._one(name, _clients(clients), self._plan(url, clients=clients))
            reached = result["clients"][str(reference_of(self._chosen.clients))]["requests_per_second"]
            for share in self._chosen.rates:
                rate = max(round(share * reached, 1), 1.0)
                result["rates"][str(share)] = {"rate": rate, **self._one(name, f"{rate:g} a second", self._plan(url, rate=rate))}
            if self._chosen.soak and name == self._chosen.topology[0]:
                result["soak"] = self._soak(name, url, max(round(SOAK_SHARE * reached, 1), 1.0))
        return result

    def _one(self, name: str, how: str, plan: Plan) -> Result:
        phase = f"{name}: {how}"
        self._report(phase, 0.0)
        result = measured(plan, self.requests)
        self._report(phase, 1.0, {"requests/s": result["requests_per_second"], "p50": result["milliseconds"].get("p50", math.nan)})
        return result

    def _soak(self, name: str, url: str, rate: float) -> Result:
        phase = f"{name}: soak"
        self._report(phase, 0.0)
        result = soak(self._plan(url, rate=rate, seconds=self._chosen.soak * 60), self.requests)
        self._report(phase, 1.0)
        return result

    def _plan(self, url: str, seconds: float | None = None, clients: int = 1, rate: float | None = None) -> Plan:
        address, chosen = urlsplit(url), self._chosen
        seconds = seconds or chosen.seconds
        look_into = math.ceil((rate or 0) * seconds / LOOK_INTO) or 1
        host, port = str(address.hostname), int(address.port or 80)
        return Plan(host, port, ENDPOINT, chosen.k, seconds, chosen.warm_up, clients, rate, look_into)


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def reference_of(clients: Sequence[int]) -> int:
    """Whose requests/s the rates are shares of."""
    return RATES_OF if RATES_OF in clients else max(clients)


def summed_up(chosen: argparse.Namespace, bench: Bench, systems: Mapping[str, Result], left_out: Mapping[str, str]) -> Result:
    artifact = open_artifact(chosen.artifact, verify="size")
    return {
        "circumstances": provenance(),
        "artifact": {"version": artifact.manifest.version, "sources": list(source_names(artifact))},
        "requests": described(bench.requests, chosen.k),
        "seconds": {"measured": chosen.seconds, "warm_up": chosen.warm_up},
        "targets": targets.judged(systems),
        "ratios": targets.ratios(systems),
        "left_out": dict(left_out),
        "systems": dict(systems),
    }


def run(chosen: argparse.Namespace, report: Progress) -> Result:
    """Written after every system: a later one may fail."""
    bench = Bench(chosen, report)
    missing = {name: bench.given.missing(name) for name in chosen.topology}
    left_out = {name: reason for name, reason in missing.items() if reason}
    systems: dict[str, Result] = {}
    result = summed_up(chosen, bench, systems, left_out)  # an artifact that is none is said before anything is started
    for name in chosen.topology:
        if name not in left_out:
            systems[name] = bench.system(name)
            result = summed_up(chosen, bench, systems, left_out)
            chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def show(result: Result) -> None:
    columns = ["system", "asked by", "p50 ms", "p95 ms", "p99 ms", "requests/s", "errors", "degraded", "CPU ms", "cores elsewhere"]
    show_rows("latency, requests/s, and CPU a request", columns, list(_rows(result["systems"])))
    for name, system in result["systems"].items():
        clients = str(reference_of([int(count) for count in system["clients"]]))
        show_rows(
            f"{name}, {clients} clients: where it goes",
            ["part", "CPU ms a request", "RSS MiB", "PSS MiB"],
            _parts(system["clients"][clients]),
        )
    show_rows("targets", ["target", "expected", "found", "reached"], [_verdict(target) for target in result["targets"]])
    for name, reason in result["left_out"].items():
        print(f"{name} is left out: {reason}")


def _rows(systems: Mapping[str, Result]) -> Iterator[list[str | float | int | None]]:
    for name, system in systems.items():
        asked = {_clients(int(clients)): run for clients, run in system["clients"].items()}
        asked |= {f"{run['rate']:g} a second": run for run in system["rates"].values()}
        for how, run in asked.items():
            latency = [run["milliseconds"].get(percentile) for percentile in ("p50", "p95", "p99")]
            failures = [run["errors"], run["degraded"]]
            yield [name, how, *latency, run["requests_per_second"], *failures, run["cpu_ms_per_request"], run["cores_elsewhere"]]


def _parts(run: Result) -> list[list[str | float | None]]:
    cpu, held = run["cpu_ms_per_request_of"], run["memory_mib_of"]
    rows = [[name, cpu.get(name, 0.0), of["rss"], of["pss"]] for name, of in held.items()]
    return [*sorted(rows, key=lambda row: -row[1]), ["client", run["client_cpu_ms_per_request"], None, None]]


def _verdict(target: Result) -> list[str | float | None]:
    said = {True: "yes", False: "no", None: "not measured"}
    return [target["target"], target["expected"], target["found"], said[target["reached"]]]


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _shares(text: str) -> list[float]:
    return [float(part) for part in text.split(",") if part]


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--challenge", type=Path, required=True, metavar="FILE", help="its playlists are the requests")
    parser.add_argument("--dataset", type=Path, help="what the artifact was trained on, for the monolith; without it that is left out")
    parser.add_argument("--topology", choices=list(SYSTEMS), nargs="+", default=list(SYSTEMS), help="what is measured, in this order")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--warm-up", type=float, default=3.0, metavar="SECONDS", help="before each measurement")
    parser.add_argument("--clients", type=_counts, default="1,4,16,64", metavar="N,…", help="that ask without a pause (%(default)s)")
    parser.add_argument("--rates", type=_shares, default="0.25,0.5,0.8", metavar="SHARE,…", help="of what 16 clients reached (%(default)s)")
    parser.add_argument(
        "--soak", type=float, default=0.0, metavar="MINUTES", help="at half of what 16 clients reached, of the first topology"
    )
    parser.add_argument("--out", type=Path, default=Path("serving.json"))
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("-k", type=int, default=10, help="tracks an answer")
    return parser


def main() -> None:
    chosen = _arguments().parse_args()
    with one_line_of("serving"), shown_progress() as report:
        result = run(chosen, report)
    show(result)


if __name__ == "__main__":
    main()
