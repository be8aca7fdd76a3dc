"""How fast sources are fitted: beside implicit's ALS in the same run, by one worker and by two, and as the data grow.

Input: a dataset, or nothing for a synthetic world. Output: one JSON with the seconds of every sweep and epoch, the losses,
the peak memory, the ratios to implicit (`pip install "segue[bench]"`) at the same number of sweeps, and the exponents by which
time and memory grow with the entries; each fit in a process of its own, one after the other, ours and implicit's in turns.

    segue bench training --dataset DATASET --out training.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.fitting import Job
from benchmarks.measure import with_checkout
from engine.cli.console import show_rows
from engine.provenance import provenance
from features.domain import SegueError
from features.ingest import ingest
from features.synthetic import write_world

SHARES = (0.125, 0.25, 0.5, 1.0)
Result = dict[str, Any]


def fitted(*jobs: Job) -> list[Result]:
    """What each of the `jobs`, which run side by side, says in the end."""
    command = [sys.executable, "-P", "-m", "benchmarks.fitting"]
    environment = {**with_checkout(), "OPENBLAS_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started = [subprocess.Popen([*command, json.dumps(asdict(job))], stdout=subprocess.PIPE, env=environment, text=True) for job in jobs]
    try:
        said = [process.communicate()[0] for process in started]
    finally:
        for process in started:
            process.kill()
    if any(process.returncode for process in started):
        raise SegueError(f"bench training: expected {jobs[0].kind} to be fitted, found that its process failed. See what it said above")
    return [json.loads(lines.splitlines()[-1]) for lines in said]


def by_workers(job: Job, workers: int) -> list[Result]:
    """One result a worker, one thread each."""
    with TemporaryDirectory() as folder:
        alike = replace(job, threads=1, workers=workers, rendezvous=str(Path(folder) / "rendezvous"))
        return fitted(*(replace(alike, rank=rank) for rank in range(workers)))


def median(result: Result) -> float:
    """Seconds a step."""
    return float(np.median(result["seconds"]))


def beside_implicit(job: Job, rounds: int) -> Result:
    """Ours and theirs in turns; the ratio is that of neighbouring runs."""
    ours, theirs = [], []
    for _ in range(rounds):
        theirs += fitted(replace(job, kind="implicit"))
        ours += fitted(job)
    ratios = [median(their) / median(our) for our, their in zip(ours, theirs, strict=True)]
    reached = next((i + 1 for i, loss in enumerate(ours[0]["losses"]) if loss <= theirs[0]["losses"][-1]), None)
    return {
        "factors": job.dim,
        "sweeps": job.steps,
        "ratio": {"median": float(np.median(ratios)), "min": min(ratios), "max": max(ratios)},
        "sweeps_to_implicits_loss": reached,
        "ours": _in_short(ours),
        "implicit": _in_short(theirs),
    }


def _in_short(runs: Sequence[Result]) -> Result:
    return {
        "seconds": [run["seconds"] for run in runs],
        "median_seconds": float(np.median([median(run) for run in runs])),
        "losses": runs[0]["losses"],
        "peak_mib": max(run["peak_mib"] for run in runs),
    }


def growth(job: Job) -> Result:
    """The same fit on more and more of the playlists, and the exponents of the straight lines through the logarithms."""
    runs = [fitted(replace(job, share=share))[0] for share in SHARES]
    rows = [
        {
            "share": share,
            **{name: run[name] for name in ("playlists", "tracks", "entries", "peak_mib", "fit_mib")},
            "seconds": median(run),
        }
        for share, run in zip(SHARES, runs, strict=True)
    ]
    entries = [row["entries"] for row in rows]
    return {
        "kind": job.kind,
        "dim": job.dim,
        "rows": rows,
        "exponents": {
            "seconds": exponent(entries, [row["seconds"] for row in rows]),
            "memory": exponent(entries, [row["fit_mib"] for row in rows]),
        },
    }


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The b of `values` = a * `sizes`^b, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measured(dataset: str, world: str, chosen: argparse.Namespace) -> Result:
    als = Job(dataset, "als", 64, chosen.sweeps, threads=chosen.threads)
    autoencoder = replace(als, kind="autoencoder", dim=128, steps=chosen.epochs)
    workers = {str(count): by_workers(als, count) for count in (1, 2)}
    losses = [runs[0]["losses"][-1] for runs in workers.values()]
    [epochs] = fitted(autoencoder)
    return {
        "circumstances": provenance(),
        "dataset": {name: epochs[name] for name in ("playlists", "tracks", "entries")},
        "threads": chosen.threads,
        "als": [beside_implicit(replace(als, dim=dim), chosen.rounds) for dim in chosen.factors],
        "autoencoder": {"dim": autoencoder.dim, "seconds": epochs["seconds"], "losses": epochs["losses"], "peak_mib": epochs["peak_mib"]},
        "workers": {
            "of": {
                count: {
                    "median_seconds": median(runs[0]),
                    "loss": runs[0]["losses"][-1],
                    "peak_mib": [run["peak_mib"] for run in runs],
                    "fit_mib": [run["fit_mib"] for run in runs],
                }
                for count, runs in workers.items()
            },
            "losses_differ_by": abs(losses[1] / losses[0] - 1),
        },
        "growth": [growth(replace(job, dataset=world)) for job in (als, autoencoder)],
    }


def shown(result: Result) -> None:
    columns = ["factors", "s a sweep", "implicit", "ratio", "loss", "implicit's", "sweeps to its loss"]
    rows: list[list[Any]] = []
    for of in result["als"]:
        ours, theirs = of["ours"], of["implicit"]
        times = [ours["median_seconds"], theirs["median_seconds"], of["ratio"]["median"]]
        rows.append([of["factors"], *times, ours["losses"][-1], theirs["losses"][-1], of["sweeps_to_implicits_loss"]])
    show_rows("ALS beside implicit", columns, rows)
    of_workers = result["workers"]["of"].items()
    show_rows("workers", ["workers", "s a sweep", "loss"], [[count, of["median_seconds"], of["loss"]] for count, of in of_workers])
    rows = [[of["kind"], of["exponents"]["seconds"], of["exponents"]["memory"]] for of in result["growth"]]
    show_rows("growth with the entries, exponents", ["source", "seconds", "memory"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dataset", type=Path, help="what `segue ingest` wrote; a synthetic world by default")
    parser.add_argument("--out", type=Path, default=Path("training.json"))
    parser.add_argument("--factors", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--sweeps", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="of ours and implicit's in turns")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--playlists", type=int, default=80_000, help="of the synthetic world that grows")
    parser.add_argument("--tracks", type=int, default=200_000, help="of the synthetic world that grows")
    chosen = parser.parse_args()
    with TemporaryDirectory() as scratch:
        world = Path(scratch)
        write_world(world / "world", chosen.playlists, chosen.tracks)
        ingest([world / "world" / "mpd.zip"], world / "dataset")
        result = measured(str(chosen.dataset or world / "dataset"), str(world / "dataset"), chosen)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    shown(result)


if __name__ == "__main__":
    main()
