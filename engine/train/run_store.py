"""The phases of a training in files, so that it resumes after a failure.

Input: a storage whose name is a hash of all that decides what the phases compute, and the phases of the plan. Output: their
results, computed once by all workers together and found by every later start. A phase that is there is whole; changed data,
another config or another number of workers never find it. Knows neither Ray nor what a phase computes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from engine.artifact import FORMAT_VERSION as ARTIFACT_VERSION
from engine.config import Config
from engine.train.checkpoints import Checkpoints
from engine.train.phase_store import Compute, PhaseFiles
from engine.train.storage import Storage, storage_at
from features.progress import Progress, silent
from stages import parallel

T = TypeVar("T")
FORMAT_VERSION = 4
"""Of the phases' files, and of what the phases compute: raise it when either changes, and no older run is resumed."""
NAME_LENGTH = 16


def storage_of(place: Path | str, fingerprint: str, config: Config, workers: int, previous: Sequence[str] = ()) -> Storage:
    """At `place`, a path or a URI, under the name of all that decides what the phases compute; `previous` names the model that a
    warm start begins from, and what is taken from it."""
    parts = [FORMAT_VERSION, ARTIFACT_VERSION, fingerprint, config.model_dump(mode="json"), workers, *previous]
    return storage_at(place, hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:NAME_LENGTH])


@dataclass(frozen=True)
class RunStore:
    """A `PhaseStore` over a storage that all workers see."""

    storage: Storage
    prefix: str = ""

    def once(self, phase: str, compute: Compute[T], files: PhaseFiles[T], report: Progress = silent) -> T:
        name = self.prefix + phase
        if all_agree(self.storage.has(name)):
            report(phase, 1.0, {})
        else:
            checkpoints = Checkpoints(self.storage, name)
            result = compute(checkpoints)
            if parallel.worker_rank() == 0:
                self._save(name, result, files)
            all_agree(True)  # no worker looks for the files before they are there
            checkpoints.drop()
        return files.open(partial(self.storage.path, name))

    def mine(self, phase: str, compute: Callable[[], T], files: PhaseFiles[T], report: Progress = silent) -> Callable[[], T]:
        name = f"{self.prefix}{phase}/{parallel.worker_rank()}"
        if self.storage.has(name):
            report(phase, 1.0, {})
        else:
            self._save(name, compute(), files)
        return lambda: files.open(partial(self.storage.path, name))

    def under(self, prefix: str) -> RunStore:
        return RunStore(self.storage, f"{self.prefix}{prefix}/")

    def _save(self, name: str, result: T, files: PhaseFiles[T]) -> None:
        with self.storage.keep(name) as folder:
            files.save(result, folder)


def all_agree(fact: bool) -> bool:
    """Whether it is so on every worker; all of them wait here for each other, and all get the same answer."""
    return int(parallel.all_reduce_sum(torch.tensor([int(fact)]))) == parallel.num_workers()
