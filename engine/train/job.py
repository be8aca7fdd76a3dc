"""One training as every process of it knows it: which dataset, which settings, where phases are saved.

Input: paths and settings; small, for it travels to the workers. Output: the plan, carried out in this process as one of the workers,
or its finished result opened. Knows no Ray: who starts the workers hands over how LightGBM finds them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from engine.config import Config
from engine.model import Trained
from engine.train import plan
from engine.train.phase_store import PhaseStore, no_network
from engine.train.run_store import FinishedPhases, RunStore, UnfinishedError
from engine.train.storage import Say, Storage, is_whole, say_nothing, without_secrets
from engine.train.warm_start import PreviousModel
from features.dataset import Dataset
from features.domain import SegueError
from features.manifest import read_manifest
from features.progress import Progress, silent
from stages import parallel

START = "start"
"""The phase from the start of the training to the first line of its plan."""
FINISHED = "finished"
"""Saved once every phase is."""


class Finished(NamedTuple):
    """What a training came to, and what it learned from."""

    trained: Trained
    dataset: Dataset


@dataclass(frozen=True)
class TrainingJob:
    """What to train, on what, how."""

    dataset: Path
    """Absolute; on a cluster the same on every node."""
    fingerprint: str
    """Of the dataset when the training began."""
    storage: Storage
    config: Config
    workers: int
    """At least 1."""
    threads: int
    """Of each worker."""
    report: Progress
    """Called on worker 0 alone."""
    gpus: int = 0
    """Of each worker."""
    previous: PreviousModel | None = None
    say: Say = say_nothing
    """Called on every worker."""

    def open_dataset(self) -> Dataset:
        """The dataset the training began with; what a worker does not see, dataset or storage, is a SegueError.

        Its sums are compared by the first worker of each machine, about 1 s per GB and core.
        """
        found = f"none on {socket.gethostname()}"
        if not self.storage.begun():
            storage = without_secrets(self.storage.address(""))
            raise SegueError(f"{storage}: expected a storage that all workers see, found {found}. Give --storage a shared path or a URI")
        if not self.dataset.exists():
            raise SegueError(f"{self.dataset}: expected the dataset at this path on every node, found {found}. Put it on a shared path")
        dataset = Dataset.open(self.dataset, verify="full" if parallel.local_rank() == 0 else "size")
        if dataset.fingerprint != self.fingerprint:
            raise SegueError(
                f"{self.dataset}: expected the dataset of fingerprint {self.fingerprint[:12]}, found {dataset.fingerprint[:12]}. "
                "It was replaced while the training ran. Train again"
            )
        return dataset

    def carry_out(self, network: plan.Network = no_network) -> Finished:
        """The whole plan, in this process and all other workers."""
        report = self.report if parallel.worker_rank() == 0 else silent
        torch.set_num_threads(self.threads)
        dataset = self.open_dataset()
        report(START, 1.0, {"workers": self.workers, "MB of dataset compared": read_manifest(self.dataset).size / 1e6})
        return Finished(self._train(dataset, RunStore(self.storage, self.say), report, network), dataset)

    def say_finished(self) -> None:
        """To whoever opens what this and all other workers carried out."""
        if parallel.worker_rank() == 0:
            with self.storage.keep(FINISHED):
                pass

    def open_finished(self) -> Finished:
        """What workers came to: the same plan, every phase of which is found. UnfinishedError where one is not there, or not whole any
        more, now or when its source is first read."""
        if not is_whole(self.storage, FINISHED, self.say):
            raise UnfinishedError(FINISHED)
        dataset = self.open_dataset()
        return Finished(self._train(dataset, FinishedPhases(self.storage, self.say), silent), dataset)

    def _train(self, dataset: Dataset, store: PhaseStore, report: Progress, network: plan.Network = no_network) -> Trained:
        return plan.train(dataset, self.config, store, threads=self.threads, network=network, report=report, previous=self.previous)
