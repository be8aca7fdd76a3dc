"""One training as every process of it knows it: which dataset, which settings, where phases are saved.

Input: paths and settings; small, for it travels to the workers. Output: the plan, carried out in this process as one of the workers,
or its finished result opened. Knows no Ray: who starts the workers hands over how LightGBM finds them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.config import Config
from engine.model import Trained
from engine.train import plan
from engine.train.phase_store import no_network
from engine.train.run_store import RunStore
from engine.train.storage import Storage, without_secrets
from engine.train.warm_start import PreviousModel
from features.dataset import Dataset
from features.domain import SegueError
from features.progress import Progress, silent
from stages import parallel

START = "start"
"""The phase from the start of the training to the first line of its plan."""
FINISHED = "finished"
"""Saved once every phase is."""


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

    def open_dataset(self) -> Dataset:
        """The dataset the training began with; what a worker does not see, dataset or storage, is a SegueError."""
        found = f"none on {socket.gethostname()}"
        if not self.storage.begun():
            storage = without_secrets(self.storage.address(""))
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

    @property
    def finished(self) -> bool:
        """Whether every phase is saved."""
        return self.storage.has(FINISHED)

    def carry_out(self, network: plan.Network = no_network) -> None:
        """The whole plan, in this process and all other workers."""
        report = self.report if parallel.worker_rank() == 0 else silent
        torch.set_num_threads(self.threads)
        dataset = self.open_dataset()
        report(START, 1.0, {"workers": self.workers})
        self._train(dataset, report, network)
        if parallel.worker_rank() == 0:
            with self.storage.keep(FINISHED):
                pass

    def open_finished(self, dataset: Dataset) -> Trained:
        """What the plan came to: the same plan, every phase of which is found."""
        return self._train(dataset, silent)

    def _train(self, dataset: Dataset, report: Progress, network: plan.Network = no_network) -> Trained:
        store = RunStore(self.storage)
        return plan.train(dataset, self.config, store, threads=self.threads, network=network, report=report, previous=self.previous)
