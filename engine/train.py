"""`segue train`: fits everything on the workers of Ray Train, and writes the artifact when all of it is there.

Input: a dataset, a config, a number of workers. Output: the artifact, whole or not at all. What is finished is kept in a
folder until then, so that the same call goes on after a failure or Ctrl-C. Starts a Ray of its own, reachable from this
machine alone, unless RAY_ADDRESS names a cluster; with 0 workers the same loops run in this process and no Ray is started.
Ray is imported when it is needed: it reads its environment once. Knows no server.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from engine.artifact import ArtifactWriter, Manifest
from engine.config import Config
from engine.model import Trained, save_model
from engine.run import KeptSource, Listener, Run, Told
from features.dataset import os_errors, read_manifest
from features.domain import SegueError
from features.pairs import Facts
from stages.protocols import Report

if TYPE_CHECKING:
    from engine.workers import Work

STORAGE = ".segue-train"
OBJECT_STORE = 512 << 20
"""Bytes; the workers pass nothing large through Ray."""
LISTEN_S = 0.2
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TRAIN_METRICS_ENABLED": "0", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
"""Nothing is sent home, no metrics are served, and the end of a group is seen at once."""
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}
"""Ray and torch listen on 127.0.0.1: the first is Ray's switch for machines where a cluster is not wanted."""


def train(
    dataset_path: Path,
    out: Path,
    config: Config,
    *,
    workers: int = 1,
    storage: Path | None = None,
    report: Report,
    threads: int | None = None,
) -> Manifest:
    """Trains on the dataset at `dataset_path` and writes the artifact at `out`; returns its manifest.

    `report` is called while the workers run, from a thread of its own. `storage`: where the finished phases are kept until the
    end, a path that all workers see; a folder beside `out` by default. `threads`: of each worker; the machine's cores shared
    out by default. Whatever a person can mend is a SegueError or an OSError, and leaves nothing new at `out`.
    """
    if workers < 0 or (threads is not None and threads < 1):
        raise SegueError(f"train: expected workers of 0 or more and threads of 1 or more, found {workers} and {threads}")
    _rehearse(out)
    fingerprint = read_manifest(dataset_path).fingerprint
    run = Run.of(storage or out.absolute().parent / STORAGE, fingerprint, config, workers)
    with run.locked():
        os.environ.update(QUIET)
        with nullcontext(threads or _cores()) if workers == 0 else _cluster(workers, threads) as threads_each:
            from engine.workers import Work

            told = report if workers == 0 else Told(run.path("progress.jsonl"))
            work = Work(dataset_path.absolute(), fingerprint, run, config, max(workers, 1), threads_each, told)
            with _heard(told, report), _torch_threads():
                _launch_all(work, here=workers == 0)
        manifest = _write(work, out)
        run.remove()
    return manifest


class _Rehearsal(Exception):
    """Ends a block that was to write nothing."""


def _rehearse(out: Path) -> None:
    """A place that cannot be written to is told of now, not after the training."""
    with suppress(_Rehearsal), ArtifactWriter(out):
        raise _Rehearsal


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _cluster(workers: int, threads: int | None) -> Iterator[int]:
    """The Ray this process is connected to, that of RAY_ADDRESS, or one started here and stopped at the end.

    Yields the threads of each worker: no more than its share of the cluster's CPUs.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.update(LOOPBACK)
    import ray

    connected = ray.is_initialized()
    try:
        if not connected:
            _connect(address, max(_cores(), workers * (threads or 1)))
        share = int(ray.cluster_resources().get("CPU", 0)) // workers  # type: ignore[no-untyped-call]
        if not share:
            raise SegueError(f"train: expected a cluster of {workers} CPUs or more, found fewer. Ask for fewer workers")
        yield min(threads or share, share)
    finally:
        if not connected:
            ray.shutdown()


def _connect(address: str | None, cpus: int) -> None:
    import ray

    if not address:
        ray.init(
            "local",
            num_cpus=cpus,
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
        return
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise SegueError(f"RAY_ADDRESS: expected a running cluster at {address}, found none. Start it, or unset RAY_ADDRESS") from error


def _launch_all(work: Work, *, here: bool) -> None:
    """Both groups, as far as they have anything left to do."""
    from ray.train import TrainingFailedError
    from ray.train.lightgbm import LightGBMTrainer
    from ray.train.torch import TorchTrainer

    from engine.workers import fit_ranker, fit_retrievers, launch, ranker_done, retrievers_done

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    try:
        if not retrievers_done(work):
            launch(TorchTrainer, fit_retrievers, work, here=here)
        if not ranker_done(work):
            launch(LightGBMTrainer, fit_ranker, work, here=here)
    except TrainingFailedError as error:
        raise _plain(error, work) from error


def _plain(error: Exception, work: Work) -> Exception:
    """What a person can mend, out of what Ray wrapped it in; an error of ours comes back as it is, for its traceback."""
    from ray.exceptions import RayActorError
    from ray.train import ControllerError

    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, SegueError | OSError):
            return cause
    again = "What was finished is kept: the same command goes on from there"
    if any(isinstance(cause, RayActorError) for cause in causes):
        found = "one that died again and again, most often of too little memory"
        return SegueError(f"train: expected {work.workers} workers to stay alive, found {found}. Ask for fewer workers. {again}")
    if isinstance(error, ControllerError):
        found = " ".join(str(error.controller_failure).split())
        return SegueError(f"train: expected {work.workers} workers of {work.threads} CPUs each to start, found {found}. {again}")
    return error


def _causes(error: object) -> Iterator[object]:
    """`error` and what Ray put into it, the outermost first."""
    yield error
    inside = [getattr(error, name, None) for name in ("controller_failure", "health_check_failure")]
    for cause in (*inside, *getattr(error, "worker_failures", {}).values()):
        if isinstance(cause, BaseException):
            yield from _causes(cause)


@contextmanager
def _heard(told: Report, report: Report) -> Iterator[None]:
    """Passes on to `report` what the workers tell, until the block ends."""
    if not isinstance(told, Told):
        yield
        return
    listener, ended = Listener(told, report), threading.Event()

    def listen() -> None:
        while not ended.wait(LISTEN_S):
            listener.listen()

    thread = threading.Thread(target=listen, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        listener.listen()
        listener.close()


@contextmanager
def _torch_threads() -> Iterator[None]:
    """A loop that ran in this process leaves torch as it was."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write(work: Work, out: Path) -> Manifest:
    """The artifact, from the finished phases."""
    from engine.workers import FINAL, open_fusion, open_ranker, open_settled

    settled = open_settled(work.run)
    dataset = work.open_dataset()
    ranker, figures = open_ranker(work.run, work.threads)
    sources = {name: KeptSource(work.run.path(f"{FINAL}/{name}")) for name in settled.config.sources.recipes()}
    trained = Trained(
        sources, Facts.of(dataset.interactions, dataset.catalog), open_fusion(work.run), ranker, {**figures, **settled.said}, settled.config
    )
    with os_errors(out):
        return save_model(trained, dataset, out)
