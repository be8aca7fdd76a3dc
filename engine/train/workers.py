"""Ray Train: a group of workers that carries out a training job together.

Input: a job, and a Ray to start the group on. Output: the finished phases in the job's storage. The plan is that of
`engine.train.plan`, through torch's process group and LightGBM's own network; Ray starts the workers, joins them and starts them
again. A finished phase is skipped, so a group that is started again resumes. Knows no phase and no artifact.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import ray
import ray.train
import torch
from ray.exceptions import RayActorError
from ray.train import ControllerError, TrainingFailedError, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from engine.train.job import START, TrainingJob
from features.domain import SegueError
from stages import parallel

ATTEMPTS = 2
"""How often a group that lost a worker is started again."""
LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system refuses today it refuses again."""
CPU_AND_GPU = "cpu:gloo,cuda:nccl"
"""Most of what the workers send each other is in main memory, which Ray's own choice for GPUs does not carry."""
ABORT_S = 15
"""Seconds a group gets to stop in order."""
_API: Any = ray.train
"""Its types are those of the first version, which the second replaces when it is imported."""


def run_worker(settings: dict[str, TrainingJob]) -> None:
    """The loop of every worker. What a worker fetched for itself is removed when its loop ends: Ray kills the process then."""
    job = settings["job"]
    with closing(job.storage):
        job.carry_out(join_lightgbm)
        job.say_finished()


def join_lightgbm() -> dict[str, Any] | None:
    """LightGBM's own parameters that join the workers: where each of them listens, on a port that was free a moment ago."""
    workers = parallel.num_workers()
    if workers == 1:
        return None
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    everybody: list[str] = [""] * workers
    own = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    torch.distributed.all_gather_object(everybody, f"{own}:{port}")
    return {"num_machines": workers, "local_listen_port": port, "machines": ",".join(everybody)}


class _NoSecondTry(UserCallback):
    """Ends the run, rather than starting the group again, after an error that no second try can mend."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            if isinstance(error, SegueError) or (isinstance(error, OSError) and error.errno in LASTING):
                raise error


def run_group(job: TrainingJob) -> None:
    """Carries the job out on a new group of workers; returns when all are done.

    Ctrl-C is a KeyboardInterrupt, after the group was stopped.
    """
    job.report(START, 0.0, {})
    group: Any = TorchTrainer(
        run_worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend=CPU_AND_GPU if job.gpus else None),
        scaling_config=_API.ScalingConfig(
            num_workers=job.workers, use_gpu=job.gpus > 0, resources_per_worker={"CPU": job.threads, "GPU": job.gpus}
        ),
        run_config=_API.RunConfig(
            name="segue",
            storage_path=job.storage.address("ray"),
            failure_config=_API.FailureConfig(max_failures=ATTEMPTS, controller_failure_limit=ATTEMPTS),
            logging_config=_API.LoggingConfig("ERROR"),
            callbacks=[_NoSecondTry()],
        ),
    )
    controllers: list[Any] = []
    group._register_sigint_handler = controllers.append  # Ray's own handler would exit with 0, and stay after the training
    try:
        group.fit()
    except KeyboardInterrupt:
        for controller in controllers:
            with suppress(ray.exceptions.RayError):
                ray.get(controller.abort.remote(), timeout=ABORT_S)
        raise
    except TrainingFailedError as error:
        raise _plain(error, job) from error


def _plain(error: Exception, job: TrainingJob) -> Exception:
    """What a person can mend, out of what Ray wrapped it in; an error of ours comes back as it is, for its traceback."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, SegueError | OSError):
            return cause
    again = "What was finished is saved: the same command resumes from there"
    if any(isinstance(cause, RayActorError) for cause in causes):
        found = "one that died again and again, most often of too little memory"
        return SegueError(f"train: expected {job.workers} workers to stay alive, found {found}. Use fewer workers. {again}")
    if isinstance(error, ControllerError):
        found = " ".join(str(error.controller_failure).split())
        return SegueError(f"train: expected {job.workers} workers of {job.threads} CPUs each to start, found {found}. {again}")
    return error


def _causes(error: object) -> Iterator[object]:
    """`error` and what Ray put into it, the outermost first."""
    yield error
    inside = [getattr(error, name, None) for name in ("controller_failure", "health_check_failure")]
    for cause in (*inside, *getattr(error, "worker_failures", {}).values()):
        if isinstance(cause, BaseException):
            yield from _causes(cause)
