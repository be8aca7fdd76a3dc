"""A world of the Million Playlist Dataset's size on this machine: written, ingested, trained, indexed and asked.

Input: how large a world. Output: one JSON with the seconds, the CPU seconds and the peak memory of every phase, every sweep's
seconds and loss, and what a query costs by exact search and by Annoy. Each phase is a process of its own, with all that it
starts; its memory is looked at from outside, shared pages counted once.

    segue bench scale --playlists 1000000 --tracks 2262292 --out scale.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import processes
from benchmarks.measure import with_checkout
from benchmarks.retrieval import TREES, ResolvedQuery, with_nodes
from engine.cli.console import show_rows
from engine.config import Config, ExamplesConfig, SourcesConfig
from engine.model import open_model
from engine.provenance import provenance
from engine.train.launch import train
from features.dataset import Dataset
from features.domain import SegueError
from features.ingest import ingest
from features.manifest import read_manifest
from features.synthetic import write_world
from stages.retrieve.als.model import Als, AlsRecipe
from stages.retrieve.index.approximate import ApproximateIndex
from stages.retrieve.index.exact import ExactIndex
from stages.retrieve.index.selection import sample_queries

Result = dict[str, Any]
LOOK_EVERY_S = 1.0
RECALL, LENGTH = 0.95, 500
NODES = (10_000, 100_000, 300_000, 400_000, 600_000, 1_000_000)
MINUTE = 60
TARGETS: Mapping[str, tuple[str, float]] = {
    "ingest, minutes": ("< 15", 15),
    "slowest sweep, seconds": ("< 60", 60),
    "everything, minutes": ("< 60", 60),
    "peak memory, GiB": ("< 20", 20),
}


def synth(chosen: argparse.Namespace) -> Result:
    write_world(chosen.folder / "world", chosen.playlists, chosen.tracks)
    return {"bytes": sum(file.stat().st_size for file in (chosen.folder / "world").iterdir())}


def read(chosen: argparse.Namespace) -> Result:
    world = chosen.folder / "world"
    return {
        name: value
        for name, value in vars(ingest([world / "mpd.zip"], chosen.folder / "dataset", world / "audio_features.parquet")).items()
        if name != "fingerprint"
    }


def learn(chosen: argparse.Namespace) -> Result:
    """Both stages, ALS as the source beside popularity; the sweeps are those of the final fit."""
    config = Config(
        alternatives={},
        sources=SourcesConfig(only=("als",), als=AlsRecipe(factors=chosen.factors, iterations=chosen.sweeps)),
        examples=ExamplesConfig(folds=1, playlists=chosen.examples),
    )
    told: list[tuple[float, str, float, Mapping[str, float]]] = []
    manifest = train(
        chosen.folder / "dataset",
        chosen.folder / "artifact",
        config,
        workers=chosen.workers,
        report=lambda phase, done, figures: told.append((time.perf_counter(), phase, done, figures)),
    )
    sweeps = [(at, figures["loss"]) for at, phase, _, figures in told if phase == "als" and "loss" in figures]
    ends = {phase: at for at, phase, done, _ in told if done == 1}
    return {
        "phases": {phase: round(at - before, 2) for (phase, at), before in zip(ends.items(), [told[0][0], *ends.values()], strict=False)},
        "sweep_seconds": [round(later - earlier, 2) for (earlier, _), (later, _) in pairwise(sweeps)],
        "losses": [loss for _, loss in sweeps],
        "index": manifest.sources["als"].model_dump(exclude_none=True),
    }


def search(chosen: argparse.Namespace) -> Result:
    """A lone query, as a listener asks, by each index on its own and through both stages."""
    model = open_model(chosen.folder / "artifact")
    als = model.pipeline.sources["als"]
    assert isinstance(als, Als)
    assert isinstance(als.index, ExactIndex | ApproximateIndex)
    queries = sample_queries(Dataset.open(chosen.folder / "dataset").interactions, 1, chosen.queries)
    asked = ResolvedQuery(als.query_vectors(queries), queries)
    tracks = als.index.tracks
    exact, built = _timed(lambda: ExactIndex.build(als.track_vectors, tracks))
    rows = [{"index": "exact", **built, **asked.measured(exact, exact, LENGTH)}]
    forest, built = _timed(lambda: ApproximateIndex.build(als.track_vectors, tracks, TREES, 1, seed=0))
    for nodes in NODES:
        rows.append({"index": "annoy", "search_nodes": nodes, **built, **asked.measured(with_nodes(forest, nodes), exact, LENGTH)})
        if rows[-1]["recall"] >= RECALL:
            break
    whole = []
    for i in range(len(queries)):
        began = time.perf_counter()
        model.pipeline.recommend(queries.part(i, i + 1), 10)
        whole.append((time.perf_counter() - began) * 1e3)
    return {"tracks": len(tracks), "rows": rows, "both_stages_ms": {"p50": float(np.median(whole)), "p95": float(np.percentile(whole, 95))}}


def _timed(build: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    began = time.perf_counter()
    index = build()
    return index, {"build_s": round(time.perf_counter() - began, 2)}


PHASES: Mapping[str, Callable[[argparse.Namespace], Result]] = {"synth": synth, "ingest": read, "train": learn, "search": search}


def watched(phase: str, chosen: argparse.Namespace) -> Result:
    """The phase in a process of its own; what it says, and what it cost."""
    command = [sys.executable, "-P", "-m", "benchmarks.scale", *sys.argv[1:], "--folder", str(chosen.folder), "--phase", phase]
    began, peak, cpu = time.perf_counter(), 0, dict[int, float]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=with_checkout(), text=True) as process:
        try:
            while process.poll() is None:
                table = processes.running()
                below = processes.descendants(table, os.getpid())
                peak = max(peak, sum(memory.pss for memory in processes.resident(below).values()))
                cpu |= {one.pid: one.cpu_seconds for one in below}  # of one that ends, what it had used a moment before
                time.sleep(LOOK_EVERY_S)
            assert process.stdout is not None
            said = process.stdout.read()
        finally:
            process.kill()
    if process.returncode:
        raise SegueError(f"bench scale: expected {phase} to end well, found that it failed. See what it said above")
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(sum(cpu.values()), 1),
        "peak_mib": round(peak / 2**20, 1),
        **json.loads(said.splitlines()[-1]),
    }


def verdicts(phases: Mapping[str, Result]) -> list[Result]:
    found = {
        "ingest, minutes": phases["ingest"]["seconds"] / MINUTE,
        "slowest sweep, seconds": max(phases["train"]["sweep_seconds"], default=0.0),
        "everything, minutes": sum(phase["seconds"] for phase in phases.values()) / MINUTE,
        "peak memory, GiB": max(phase["peak_mib"] for phase in phases.values()) / 1024,
    }
    return [
        {"target": name, "expected": expected, "found": found[name], "reached": found[name] < most}
        for name, (expected, most) in TARGETS.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--playlists", type=int, default=1_000_000)
    parser.add_argument("--tracks", type=int, default=2_262_292)
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--sweeps", type=int, default=10)
    parser.add_argument("--examples", type=int, default=2_000, help="playlists the ranker learns from")
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("scale.json"))
    parser.add_argument("--folder", type=Path, help="where the world is made, and stays; else a temporary one")
    parser.add_argument("--phase", choices=PHASES, help="this phase alone, whose figures are printed")
    chosen = parser.parse_args()
    if chosen.phase:
        print(json.dumps(PHASES[chosen.phase](chosen), default=float), flush=True)
        return
    with tempfile.TemporaryDirectory() as scratch:
        chosen.folder = (chosen.folder or Path(scratch)).absolute()
        chosen.folder.mkdir(parents=True, exist_ok=True)
        phases = {}
        for phase in PHASES:
            phases[phase] = watched(phase, chosen)
            print(f"{phase}: {phases[phase]['seconds']:.0f} s, {phases[phase]['peak_mib'] / 1024:.1f} GiB", file=sys.stderr, flush=True)
        size = read_manifest(chosen.folder / "dataset").model_dump(include={"num_playlists", "num_tracks", "num_interactions"})
    result = {"circumstances": provenance(), "world": size, "phases": phases, "targets": verdicts(phases)}
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    rows = [[name, of["seconds"], of["cpu_seconds"], of["peak_mib"] / 1024] for name, of in phases.items()]
    show_rows("scale", ["phase", "seconds", "CPU seconds", "peak GiB"], rows)
    columns = ["index", "search_nodes", "build_s", "recall", "ms a query of 1"]
    show_rows("a lone query", columns, [[row.get(column) for column in columns] for row in phases["search"]["rows"]])


if __name__ == "__main__":
    main()
