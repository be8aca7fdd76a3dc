"""One source fitted in a process of its own: the seconds and the loss of every step, and the memory it took.

Input: a Job as JSON, on the command line. Output: a line of JSON. What is fitted is a share of a dataset's playlists over the
tracks they hold, so that a smaller share is a smaller world. implicit's ALS is a source like ours, with its loss computed
between two sweeps, off the clock. Knows no other job.

    python -m benchmarks.fitting '{"dataset": "dataset", "kind": "als", "dim": 64, "steps": 10}'
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from features.catalog import Catalog
from features.dataset import Dataset
from features.domain import Floats
from features.interactions import Interactions
from features.manifest import read_manifest
from stages.retrieve.als.model import AlsRecipe
from stages.retrieve.autoencoder.model import AutoencoderRecipe
from stages.training_data import TrainingData

CONFIDENCE, REGULARIZATION = 10.0, 0.1
"""Of both systems' ALS, whose loss is that of Hu, Koren and Volinsky (2008)."""
ENTRIES_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Job:
    """What to fit on what."""

    dataset: str
    kind: str
    """als, autoencoder, implicit"""
    dim: int
    steps: int
    """Sweeps or epochs."""
    share: float = 1.0
    """Of the playlists."""
    threads: int = 2
    rank: int = 0
    workers: int = 1
    rendezvous: str = ""
    """A file that does not exist yet, where several workers meet."""


class CheckpointStore:
    """The time of every step but the first, which began with what had to be prepared, and the loss after each."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._began: float | None = None

    def end(self) -> None:
        if self._began is not None:
            self.seconds.append(time.perf_counter() - self._began)

    def begin(self, loss: float) -> None:
        """The next one, after a step that reached `loss`."""
        self.losses.append(loss)
        self._began = time.perf_counter()

    def __call__(self, _: str, done: float, figures: Mapping[str, float]) -> None:
        """As the Report of a source that tells its loss itself."""
        self.end()
        self.begin(figures["loss"])


def visible(job: Job) -> TrainingData:
    path = Path(job.dataset)
    dataset = Dataset.open(path, playlists=(0, max(int(read_manifest(path).num_playlists * job.share), 1)))
    held = dataset.interactions
    kept, tracks = np.unique(held.tracks, return_inverse=True)
    compact = replace(held, tracks=tracks.astype(np.int32), num_tracks=len(kept))
    catalog = Catalog(dataset.catalog.table[kept.tolist()])
    return TrainingData(compact, catalog, np.empty((len(kept), 0), np.float32), seed=0, serves=False)


def fit(job: Job, data: TrainingData) -> CheckpointStore:
    if job.kind == "implicit":
        return _implicit(job, data.interactions)
    steps = CheckpointStore()
    if job.kind == "als":
        recipe = AlsRecipe(
            factors=job.dim, iterations=job.steps, alpha=CONFIDENCE, regularization=REGULARIZATION / CONFIDENCE, frequency_exponent=0
        )
        recipe.fit(data, steps)
    else:
        AutoencoderRecipe(dim=job.dim, epochs=job.steps).fit(data, steps)
    return steps


def _implicit(job: Job, held: Interactions) -> CheckpointStore:
    from implicit.cpu.als import AlternatingLeastSquares

    matrix, steps = held.holds, CheckpointStore()
    model = AlternatingLeastSquares(
        factors=job.dim,
        alpha=CONFIDENCE,
        regularization=REGULARIZATION,
        iterations=job.steps,
        num_threads=job.threads,
        random_state=0,
    )

    def ended(*_: object) -> None:
        steps.end()
        steps.begin(loss(held, model.user_factors, model.item_factors))

    model.fit(matrix, show_progress=False, callback=ended)
    return steps


def loss(held: Interactions, rows: Floats, columns: Floats) -> float:
    """The whole loss, plays all 1, from the factors alone: `rows` (num_playlists, dim), `columns` (num_tracks, dim)."""
    whole = float(np.sum((rows.T.astype(float) @ rows) * (columns.T.astype(float) @ columns)))
    row_of = np.repeat(np.arange(held.num_playlists), held.lengths())
    for start in range(0, len(row_of), ENTRIES_AT_ONCE):
        some = slice(start, start + ENTRIES_AT_ONCE)
        scores = np.einsum("ij,ij->i", rows[row_of[some]], columns[held.tracks[some]]).astype(float)
        whole += float(((1 + CONFIDENCE) * (1 - scores) ** 2 - scores**2).sum())
    return whole + REGULARIZATION * float((rows.astype(float) ** 2).sum() + (columns.astype(float) ** 2).sum())


def _memory_mib(what: str) -> float:
    """Of this process: VmRSS, what it holds, or VmHWM, the most it held since `_forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1024


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def fit_here() -> None:
    job = Job(**json.loads(sys.argv[1]))
    torch.set_num_threads(job.threads)
    if job.workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{job.rendezvous}", rank=job.rank, world_size=job.workers)
    data = visible(job)
    held = _memory_mib("VmRSS")
    _forget_peak()
    began = time.perf_counter()
    steps = fit(job, data)
    result = {
        "job": asdict(job),
        "playlists": data.interactions.num_playlists,
        "tracks": data.num_tracks,
        "entries": len(data.interactions.tracks),
        "seconds": [round(one, 4) for one in steps.seconds],
        "losses": steps.losses,
        "fit_seconds": round(time.perf_counter() - began, 3),
        "peak_mib": round(_memory_mib("VmHWM"), 1),
        "fit_mib": round(_memory_mib("VmHWM") - held, 1),
    }
    print(json.dumps(result), flush=True)
    if job.workers > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    fit_here()
