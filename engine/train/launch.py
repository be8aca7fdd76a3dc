"""`segue train`: carries out a training, and writes the artifact when all of it is there.

Input: a dataset, a config, a number of workers. Output: the artifact, whole or not at all, and only when it opens and answers. Finished
phases stay in a storage until then, so that the same call resumes after a failure or Ctrl-C. With 0 workers the plan runs in this
process and Ray is not even imported; else Ray Train's workers carry it out. Knows no phase and no server.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from engine.artifact import ArtifactWriter, Manifest
from engine.config import Config
from engine.model import save_model
from engine.train.job import Finished, TrainingJob
from engine.train.run_store import UnfinishedError, storage_of
from engine.train.storage import Say, Storage, say_nothing, without_secrets
from engine.train.trial import try_out
from engine.train.warm_start import PreviousModel
from features.atomic import os_errors
from features.domain import SegueError
from features.manifest import read_manifest
from features.processes import cores
from features.progress import Progress

STORAGE = ".segue-train"


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
    say: Say = say_nothing,
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
    with _kept_while_unfinished(place):
        _name_others(place, say)
        of_each = threads or cores()
        job = TrainingJob(dataset_path.absolute(), fingerprint, place, config, max(workers, 1), of_each, report, gpus, previous, say)
        with _torch_threads():
            return _write(job.carry_out(), out) if workers == 0 else _by_workers(job, threads, out)


@contextmanager
def _kept_while_unfinished(storage: Storage) -> Iterator[None]:
    """The storage is gone after a training that ended well, and after one that left nothing to resume from."""
    with closing(storage), storage.locked():
        try:
            yield
        except BaseException:
            with suppress(OSError):
                if not storage.holds_work():
                    storage.remove()
            raise
        storage.remove()


def _name_others(storage: Storage, say: Say) -> None:
    """What other trainings left is theirs: nothing here removes it, but nobody else would ever mention it."""
    for address, size in storage.others().items():
        say(f"{address}: {size / 2**20:,.1f} MiB of another training, of other data or settings. Delete it if nobody will resume it")


class _Rehearsal(Exception):
    """Ends a block that was to write nothing."""


def _rehearse(out: Path) -> None:
    """A place that cannot be written to is an error now, not after the training."""
    with suppress(_Rehearsal), ArtifactWriter(out):
        raise _Rehearsal


def _by_workers(job: TrainingJob, threads: int | None, out: Path) -> Manifest:
    """The artifact of what workers of Ray Train finish, or had finished before an interruption; `threads` of each as the caller
    wants them."""
    with suppress(UnfinishedError):
        return _write(job.open_finished(), out)
    _carry_out(job, threads)
    try:
        return _write(job.open_finished(), out)
    except UnfinishedError as error:
        found = f"{error} damaged since it was written, or gone"
        place = without_secrets(job.storage.address(""))
        raise SegueError(f"{place}: expected finished phases, found {found}. Run the same command again") from error


def _write(finished: Finished, out: Path) -> Manifest:
    with os_errors(out):
        return save_model(finished.trained, finished.dataset, out, try_out)


def _carry_out(job: TrainingJob, threads: int | None) -> None:
    from engine.train.cluster import cluster  # Ray takes seconds to import and reads its environment then

    with cluster(job.workers, threads, job.gpus) as threads_each:
        from engine.train.progress import reported_to
        from engine.train.workers import run_group

        with reported_to(job.report, job.say) as report:
            run_group(replace(job, threads=threads_each, report=report, say=report.say))


@contextmanager
def _torch_threads() -> Iterator[None]:
    """A plan that ran in this process leaves torch as it was."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
