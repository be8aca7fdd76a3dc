"""`segue train`: carries out a training, and writes the artifact when all of it is there.

Input: a dataset, a config, a number of workers. Output: the artifact, whole or not at all. Finished phases stay in a storage until
then, so that the same call resumes after a failure or Ctrl-C. With 0 workers the plan runs in this process and Ray is not even
imported; else Ray Train's workers carry it out. Knows no phase and no server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from engine.artifact import ArtifactWriter, Manifest
from engine.config import Config
from engine.model import save_model
from engine.train.job import TrainingJob
from engine.train.run_store import storage_of
from engine.train.storage import Storage
from engine.train.warm_start import PreviousModel
from features.atomic import os_errors
from features.domain import SegueError
from features.manifest import read_manifest
from features.processes import cores
from features.progress import Progress

STORAGE = ".segue-train"


def _say_nothing(_: str) -> None: ...


def train(
    dataset_path: Path,
    out: Path,
    config: Config,
    *,
    workers: int = 1,
    storage: Path | str | None = None,
    report: Progress,
    threads: int | None = None,
    gpus: int = 0,
    previous: PreviousModel | None = None,
    say: Callable[[str], None] = _say_nothing,
) -> Manifest:
    """Trains on the dataset at `dataset_path` and writes the artifact at `out`; returns its manifest.

    `report` is called while the training runs, from a thread of its own where there are workers. `storage`: where the finished
    phases stay until the end, a path that all workers see or a URI of a filesystem that pyarrow knows; a folder beside `out` by
    default. `threads`: of each worker, a CPU of the cluster each; the cluster's CPUs shared out by default. `gpus`: of each worker.
    `previous`: the model of a warm start; `config` is then the one it was trained with. `say` gets lines that a person should read.
    Whatever a person can mend is a SegueError or an OSError, and leaves nothing new at `out`.
    """
    if workers < 0 or gpus < 0 or (threads is not None and threads < 1):
        found = f"{workers}, {gpus} and {threads}"
        raise SegueError(f"train: expected workers and GPUs of 0 or more and threads of 1 or more, found {found}")
    _rehearse(out)
    fingerprint = read_manifest(dataset_path).fingerprint
    place = storage_of(storage or out.absolute().parent / STORAGE, fingerprint, config, workers, previous.names if previous else ())
    with closing(place), place.locked():
        _name_others(place, say)
        job = TrainingJob(dataset_path.absolute(), fingerprint, place, config, max(workers, 1), threads or cores(), report, gpus, previous)
        with _torch_threads():
            if not job.finished:
                _carry_out(job, here=workers == 0, threads=threads)
            manifest = _write(job, out)
        place.remove()
    return manifest


def _name_others(storage: Storage, say: Callable[[str], None]) -> None:
    """What other trainings left is theirs: nothing here removes it, but nobody else would ever mention it."""
    for address, size in storage.others().items():
        say(f"{address}: {size / 2**20:,.1f} MiB of another training, of other data or settings. Delete it if nobody will resume it")


class _Rehearsal(Exception):
    """Ends a block that was to write nothing."""


def _rehearse(out: Path) -> None:
    """A place that cannot be written to is an error now, not after the training."""
    with suppress(_Rehearsal), ArtifactWriter(out):
        raise _Rehearsal


def _carry_out(job: TrainingJob, *, here: bool, threads: int | None) -> None:
    """In this process, or by workers of Ray Train; `threads` of each as the caller wants them."""
    if here:
        job.carry_out()
        return
    from engine.train.cluster import cluster  # Ray takes seconds to import and reads its environment then

    with cluster(job.workers, threads, job.gpus) as threads_each:
        from engine.train.progress import reported_to
        from engine.train.workers import run_group

        with reported_to(job.report) as report:
            run_group(replace(job, threads=threads_each, report=report))


@contextmanager
def _torch_threads() -> Iterator[None]:
    """A plan that ran in this process leaves torch as it was."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write(job: TrainingJob, out: Path) -> Manifest:
    """The artifact, from the finished phases."""
    dataset = job.open_dataset()
    trained = job.open_finished(dataset)
    with os_errors(out):
        return save_model(trained, dataset, out)
