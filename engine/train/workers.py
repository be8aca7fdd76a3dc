"""What the workers of a training do, and how Ray Train starts them: one group fits the retrievers, then the ranker.

Input: a dataset on a path all workers see, a config, the run's storage. Output: finished phases there. The maths is
that of `engine.train.plan` and lives in the stages, through torch's process group and LightGBM's own network; Ray starts the
workers, joins them and starts them again. A finished phase is skipped, so a group that is started again goes on where it was.
Knows no artifact.
"""

from __future__ import annotations

import errno
import hashlib
import re
import socket
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.train.collective
import torch
from ray.train import UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from engine.config import Config
from engine.pipeline import Pipeline, second_stage
from engine.train import plan
from engine.train.autoconfig import autoconfigure
from engine.train.checkpoints import Checkpoints
from engine.train.fusion_weights import weigh
from engine.train.phases import (
    FINAL,
    FUSION,
    RANKER,
    SETTLED,
    KeptSource,
    keep_fusion,
    keep_ranker,
    keep_settled,
    keep_source,
    open_fusion,
    open_settled,
)
from engine.train.run_store import Run
from engine.train.storage import without_secrets
from engine.train.warm_start import PreviousModel
from features.dataset import Dataset
from features.domain import SegueError
from features.pairs import Facts
from features.split import Split
from stages import parallel
from stages.protocols import Report, Retriever, named, silent, staged
from stages.rank.examples import Examples
from stages.rank.lambdamart import LambdaMart
from stages.resume import TrainingContext, WarmStart
from stages.training_data import TrainingData

START = "start"
"""The phase from the launch of the group to the first line of its loop."""
EXAMPLES_FILE = "examples.npz"
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


@dataclass(frozen=True)
class Work:
    """All that a worker is told; it travels to the workers, so it is small."""

    dataset: Path
    fingerprint: str
    """Of the dataset when the training began."""
    run: Run
    config: Config
    workers: int
    """At least 1."""
    threads: int
    """Of each worker."""
    report: Report
    """Called on worker 0 alone."""
    gpus: int = 0
    """Of each worker."""
    older: PreviousModel | None = None

    def open_dataset(self) -> Dataset:
        """The dataset the training began with; a worker that does not see it, or the run's storage, is told of here."""
        found = f"none on {socket.gethostname()}"
        if not self.run.storage.begun():
            storage = without_secrets(self.run.storage.address(""))
            raise SegueError(f"{storage}: expected a storage that all workers see, found {found}. Give --storage a shared path or a URI")
        if not self.dataset.exists():
            raise SegueError(f"{self.dataset}: expected the dataset at this path on every node, found {found}. Put it on a shared path")
        dataset = Dataset.open(self.dataset)
        if dataset.fingerprint != self.fingerprint:
            raise SegueError(
                f"{self.dataset}: expected the dataset of fingerprint {self.fingerprint[:12]}, found {dataset.fingerprint[:12]}. "
                "It was replaced while the training ran. Train again"
            )
        return dataset

    def report_of(self, rank: int) -> Report:
        return self.report if rank == 0 else silent


def done(work: Work) -> bool:
    """Whether there is nothing left to start a group for."""
    if not all(work.run.has(phase) for phase in (SETTLED, FUSION, RANKER)):
        return False
    return all(work.run.has(f"{FINAL}/{name}") for name in settled_work(work).config.sources.recipes())


def fit_all(settings: dict[str, Work]) -> None:
    """The loop of every worker: masked sources, fusion, examples, sources on everything, the ranker. What a worker fetched for
    itself is gone when its loop ends: Ray kills the process then."""
    work = settings["work"]
    report = work.report_of(parallel.worker_rank())
    torch.set_num_threads(work.threads)
    with closing(work.run.storage):
        dataset = work.open_dataset()
        report(START, 1.0, {"workers": work.workers})
        work = _settle(work, dataset, report)
        has_ranker = _on_all_workers(work.run.has(RANKER))
        if not has_ranker:
            for fold in range(work.config.examples.folds):
                _make_examples(work, dataset, fold, report)
        _fit_final(work, dataset, report)
        if not has_ranker:
            _fit_ranker(work, dataset, report)


def _fit_final(work: Work, dataset: Dataset, report: Report) -> None:
    """The sources that will serve."""
    everything = plan.visible(dataset, dataset.interactions, work.config)
    older = work.older.sources(dataset.vocabulary) if work.older else {}
    for name in work.config.sources.recipes():
        _fit_source(work, FINAL, name, everything, report, older.get(name))


def _settle(work: Work, dataset: Dataset, report: Report) -> Work:
    """Decides, once for all workers, what the data leave of the config that was asked for."""
    if not _on_all_workers(work.run.has(SETTLED)):
        settled = autoconfigure(dataset, work.config, report)
        if parallel.worker_rank() == 0:
            keep_settled(work.run, settled)
        _on_all_workers(True)
    return settled_work(work)


def settled_work(work: Work) -> Work:
    """With the config that all but the first phase work by."""
    return replace(work, config=open_settled(work.run).config)


def _make_examples(work: Work, dataset: Dataset, fold: int, report: Report) -> None:
    """This worker's share, by a pipeline that all workers fit together."""
    own, stage = _examples_of(fold, parallel.worker_rank()), plan.masked_stage(fold)
    if _on_all_workers(work.run.has(FUSION) and work.run.has(own)):
        report(plan.examples_stage(fold), 1.0, {})
        return
    split = plan.masked(dataset, work.config, fold)
    data = plan.visible(dataset, split.visible, work.config, serves=False)
    for name in work.config.sources.recipes():
        _fit_source(work, stage, name, data, staged(report, stage))
    _weigh(work, split, _open_sources(work, stage, data.num_tracks))
    if not work.run.has(own):
        chosen = plan.share_of(split, plan.learn_from(split, work.config), parallel.worker_rank(), work.workers)
        pipeline = open_masked(work, dataset, split, fold)
        examples = plan.make_examples(split, chosen, pipeline, work.config, staged(report, plan.examples_stage(fold)))
        with work.run.keep(own) as folder:
            examples.save(folder / EXAMPLES_FILE)


def _fit_source(work: Work, stage: str, name: str, data: TrainingData, report: Report, older: WarmStart | None = None) -> None:
    """By all workers together; worker 0 keeps what all of them hold."""
    phase = f"{stage}/{name}"
    if _on_all_workers(work.run.has(phase)):
        report(name, 1.0, {})
        return
    steps = Checkpoints(work.run, phase)
    past = TrainingContext(steps, older, work.older.effort if work.older and older else 1.0)
    source = work.config.sources.recipes()[name].fit(replace(data, past=past), named(report, name))
    if parallel.worker_rank() == 0:
        keep_source(work.run, phase, source)
    _on_all_workers(True)  # nobody looks for the files before they are there
    steps.drop()


def _weigh(work: Work, split: Split, sources: dict[str, Retriever]) -> None:
    if _on_all_workers(work.run.has(FUSION)):
        return
    fusion = weigh(sources, *plan.for_fusion(split, work.config))
    if parallel.worker_rank() == 0:
        keep_fusion(work.run, fusion)
    _on_all_workers(True)


def _on_all_workers(fact: bool) -> bool:
    """Whether it is so on every worker; all of them wait here for each other, and all get the same answer."""
    return int(parallel.all_reduce_sum(torch.tensor([int(fact)]))) == parallel.num_workers()


def _examples_of(fold: int, rank: int) -> str:
    return f"{plan.examples_stage(fold)}/{rank}"


def _open_sources(work: Work, stage: str, num_tracks: int) -> dict[str, Retriever]:
    """From files: mapped into memory once per machine, and the same for a run that was resumed."""
    kept = {name: KeptSource(work.run.path(f"{stage}/{name}")) for name in work.config.sources.recipes()}
    return {name: recipe.open(kept[name].files, num_tracks) for name, recipe in work.config.sources.recipes().items()}


def open_masked(work: Work, dataset: Dataset, split: Split, fold: int) -> Pipeline:
    """The pipeline that saw only what the fold's split left visible."""
    sources = _open_sources(work, plan.masked_stage(fold), dataset.interactions.num_tracks)
    facts = Facts.of(split.visible, dataset.catalog)
    return Pipeline(sources, second_stage(sources, facts, open_fusion(work.run), None, work.config.candidates))


def _fit_ranker(work: Work, dataset: Dataset, report: Report) -> None:
    """By LightGBM's distributed learner over every worker's own queries, then the figures."""
    rank, steps = parallel.worker_rank(), Checkpoints(work.run, RANKER)
    folds = (work.run.path(_examples_of(fold, rank)) for fold in range(work.config.examples.folds))
    examples = Examples.join([Examples.open(fold / EXAMPLES_FILE) for fold in folds])
    fitted = work.config.ranker.fit(examples, work.config.seed, work.threads, _network(work.workers), report, steps)
    ranker = replace(fitted, text=_alone(fitted.text))
    _require_same(ranker, rank)
    if rank == 0:
        _keep_ranker(work, dataset, ranker, report)
    _on_all_workers(True)
    steps.drop()


def _network(workers: int) -> dict[str, Any] | None:
    """LightGBM's own parameters that join the workers: where each of them listens, on a port that was free a moment ago."""
    if workers == 1:
        return None
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    everybody: list[str] = [""] * workers
    own = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    torch.distributed.all_gather_object(everybody, f"{own}:{port}")
    return {"num_machines": workers, "local_listen_port": port, "machines": ",".join(everybody)}


def _alone(text: str) -> str:
    """The same trees without the addresses and ports of the workers that grew them."""
    text = re.sub(r"^\[machines: .*\]$", "[machines: ]", text, flags=re.MULTILINE)
    return re.sub(r"^\[local_listen_port: \d+\]$", "[local_listen_port: 12400]", text, flags=re.MULTILINE)


def _require_same(ranker: LambdaMart, rank: int) -> None:
    """Each worker holds the model of all examples, or it has silently learned from its own alone."""
    own = hashlib.sha256(ranker.text.encode()).hexdigest()
    first = ray.train.collective.broadcast_from_rank_zero(own)
    if own != first:
        raise SegueError(
            f"ranker: expected all workers to end with the model of sha256 {first[:12]}, found {own[:12]} on worker {rank}. "
            "LightGBM did not train together. Report this with your config, or train with one worker"
        )


def _keep_ranker(work: Work, dataset: Dataset, ranker: LambdaMart, report: Report) -> None:
    split = plan.masked(dataset, work.config)
    final = _open_sources(work, FINAL, dataset.interactions.num_tracks)
    figures = plan.check(split, open_masked(work, dataset, split, 0), ranker, final, work.config)
    keep_ranker(work.run, ranker, figures)
    report("check", 1.0, {})


class _NoSecondTry(UserCallback):
    """Ends the run, rather than starting the group again, after an error that no second try can mend."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            if isinstance(error, SegueError) or (isinstance(error, OSError) and error.errno in LASTING):
                raise error


def launch(work: Work, *, here: bool) -> None:
    """Runs the loop on all workers of a new group, or `here` in this process; returns when all are done.

    Ctrl-C is a KeyboardInterrupt, after the group was stopped.
    """
    work.report(START, 0.0, {})
    gpus = 0 if here else work.gpus
    group: Any = TorchTrainer(
        fit_all,
        train_loop_config={"work": work},
        torch_config=TorchConfig(backend=CPU_AND_GPU if gpus else None),
        scaling_config=_API.ScalingConfig(
            num_workers=0 if here else work.workers, use_gpu=gpus > 0, resources_per_worker={"CPU": work.threads, "GPU": gpus}
        ),
        run_config=_API.RunConfig(
            name="segue",
            storage_path=work.run.storage.address("ray"),
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
