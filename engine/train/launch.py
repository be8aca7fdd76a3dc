"""`segue train`: fits everything on the workers of Ray Train, and writes the artifact when all of it is there.

Input: a dataset, a config, a number of workers. Output: the artifact, whole or not at all. What is finished is kept in a
folder until then, so that the same call goes on after a failure or Ctrl-C. Starts a Ray of its own, reachable from this
machine alone, unless RAY_ADDRESS names a cluster; with 0 workers the same loops run in this process and no Ray is started.
Only LightGBM's learner listens on every interface while more than one worker grows trees: its address is fixed in its source.
Ray is imported when it is needed: it reads its environment once. Knows no server.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine.artifact import ArtifactWriter, Manifest
from engine.config import Config
from engine.model import Trained, save_model
from engine.train.phases import FINAL, KeptSource, open_fusion, open_ranker, open_settled
from engine.train.run_store import Run
from engine.train.warm_start import PreviousModel
from features.atomic import os_errors
from features.domain import SegueError
from features.manifest import read_manifest
from features.pairs import Facts
from features.processes import cores
from stages.protocols import Report

if TYPE_CHECKING:
    from engine.train.workers import Work

STORAGE = ".segue-train"
OBJECT_STORE = 512 << 20
"""Bytes; the workers pass nothing large through Ray."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TRAIN_METRICS_ENABLED": "0", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
"""Nothing is sent home, no metrics are served, and the end of a group is seen at once."""
_LO = "lo" if sys.platform == "linux" else "lo0"
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "GLOO_SOCKET_IFNAME": _LO, "NCCL_SOCKET_IFNAME": _LO}
"""Ray and torch listen on 127.0.0.1: the first is Ray's switch for machines where a cluster is not wanted."""


def _unsaid(_: str) -> None: ...


def train(
    dataset_path: Path,
    out: Path,
    config: Config,
    *,
    workers: int = 1,
    storage: Path | str | None = None,
    report: Report,
    threads: int | None = None,
    gpus: int = 0,
    older: PreviousModel | None = None,
    say: Callable[[str], None] = _unsaid,
) -> Manifest:
    """Trains on the dataset at `dataset_path` and writes the artifact at `out`; returns its manifest.

    `report` is called while the workers run, from a thread of its own. `storage`: where the finished phases are kept until the
    end, a path that all workers see or a URI of a filesystem that pyarrow knows; a folder beside `out` by default. `threads`: of
    each worker, a CPU of the cluster each; the cluster's CPUs shared out by default. `gpus`: of each worker. `older`: the model
    to start warm from; `config` is then the one it was trained with. `say` is handed lines that a person should read. Whatever a
    person can mend is a SegueError or an OSError, and leaves nothing new at `out`.
    """
    if workers < 0 or gpus < 0 or (threads is not None and threads < 1):
        found = f"{workers}, {gpus} and {threads}"
        raise SegueError(f"train: expected workers and GPUs of 0 or more and threads of 1 or more, found {found}")
    _rehearse(out)
    fingerprint = read_manifest(dataset_path).fingerprint
    run = Run.of(storage or out.absolute().parent / STORAGE, fingerprint, config, workers, older.names if older else ())
    with closing(run.storage), run.storage.locked():
        _name_others(run, say)
        if older:
            older.begin(run)
        os.environ.update(QUIET)
        with nullcontext(threads or cores()) if workers == 0 else _cluster(workers, threads, gpus) as threads_each:
            from engine.train.workers import Work

            with nullcontext(report) if workers == 0 else _heard(report) as told, _torch_threads():
                work = Work(dataset_path.absolute(), fingerprint, run, config, max(workers, 1), threads_each, told, gpus, older)
                _launch(work, here=workers == 0)
        manifest = _write(work, out)
        run.storage.remove()
    return manifest


def _name_others(run: Run, say: Callable[[str], None]) -> None:
    """What other trainings left is theirs: nothing here removes it, but nobody else would ever mention it."""
    for address, size in run.storage.others().items():
        say(f"{address}: {size / 2**20:,.1f} MiB of another training, of other data or settings. Delete it if nobody will go on with it")


class _Rehearsal(Exception):
    """Ends a block that was to write nothing."""


def _rehearse(out: Path) -> None:
    """A place that cannot be written to is told of now, not after the training."""
    with suppress(_Rehearsal), ArtifactWriter(out):
        raise _Rehearsal


@contextmanager
def _cluster(workers: int, threads: int | None, gpus: int) -> Iterator[int]:
    """The Ray this process is connected to, that of RAY_ADDRESS, or one started here and stopped at the end.

    Yields the threads of each worker: as many as were asked for, or as many as there is room for.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.update(LOOPBACK)
    import ray

    connected = ray.is_initialized()
    try:
        if not connected:
            _connect(address, max(cores(), workers * (threads or 1)))
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        most = threads or int(max(node.get("CPU", 0) for node in nodes))
        least = threads or 1
        share = next((cpus for cpus in range(most, least - 1, -1) if room(nodes, cpus, gpus) >= workers), None)
        if share is None:
            asked = f"{workers} workers of {least} CPUs{f' and {gpus} GPUs' if gpus else ''} each"
            found = f"one of {len(nodes)} nodes with room for {room(nodes, least, gpus)}"
            raise SegueError(f"train: expected a cluster with room for {asked}, found {found}. Ask for less, or add nodes first")
        yield share
    finally:
        if not connected:
            ray.shutdown()


def room(nodes: Sequence[dict[str, float]], cpus: int, gpus: int) -> int:
    """How many workers of so many CPUs and GPUs fit on the nodes, each on one of them."""
    return sum(int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else float("inf"))) for node in nodes)


def _heard(report: Report) -> Any:
    from engine.train.progress import heard

    return heard(report)


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


def _launch(work: Work, *, here: bool) -> None:
    """The group, if anything is left to do."""
    from ray.train import TrainingFailedError

    from engine.train.workers import done, launch

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    if done(work):
        return
    try:
        launch(work, here=here)
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
def _torch_threads() -> Iterator[None]:
    """A loop that ran in this process leaves torch as it was."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write(work: Work, out: Path) -> Manifest:
    """The artifact, from the finished phases."""
    settled = open_settled(work.run)
    dataset = work.open_dataset()
    ranker, figures = open_ranker(work.run, work.threads)
    sources = {name: KeptSource(work.run.path(f"{FINAL}/{name}")) for name in settled.config.sources.recipes()}
    trained = Trained(
        sources, Facts.of(dataset.interactions, dataset.catalog), open_fusion(work.run), ranker, {**figures, **settled.said}, settled.config
    )
    with os_errors(out):
        return save_model(trained, dataset, out)
