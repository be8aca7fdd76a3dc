"""The phases of a training in files, so that it resumes after a failure.

Input: a storage whose name is a hash of all that decides what the phases compute, and the phases of the plan. Output: their
results, computed once by all workers together and found by every later start. A phase that is not as it was saved is said and computed
again; changed data, another config or another number of workers never find it. Knows neither Ray nor what a phase computes.
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
from engine.train.storage import Say, Storage, is_whole, say_nothing, storage_at
from features.progress import Progress, silent
from stages import parallel

T = TypeVar("T")
FORMAT_VERSION = 5
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
    say: Say = say_nothing
    prefix: str = ""

    def once(self, phase: str, compute: Compute[T], files: PhaseFiles[T], report: Progress = silent) -> T:
        name = self.prefix + phase
        if self._found(name):
            report(phase, 1.0, {})
        else:
            checkpoints = Checkpoints(self.storage, name, self.say)
            result = compute(checkpoints)
            if parallel.worker_rank() == 0:
                self._save(name, result, files)
            all_agree(True)  # no worker looks for the files before they are there
            checkpoints.drop()
        return files.open(partial(self.storage.path, name))

    def mine(self, phase: str, compute: Callable[[], T], files: PhaseFiles[T], report: Progress = silent) -> Callable[[], T]:
        name = f"{self.prefix}{phase}/{parallel.worker_rank()}"
        if is_whole(self.storage, name, self.say):
            report(phase, 1.0, {})
        else:
            self._save(name, compute(), files)
        return lambda: files.open(partial(self.storage.path, name))

    def under(self, prefix: str) -> RunStore:
        return RunStore(self.storage, self.say, f"{self.prefix}{prefix}/")

    def _found(self, name: str) -> bool:
        """On every worker, and whole: worker 0 compares the sums for all, who compare what they then read themselves."""
        here = is_whole(self.storage, name, self.say) if parallel.worker_rank() == 0 else self.storage.has(name)
        return all_agree(here)

    def _save(self, name: str, result: T, files: PhaseFiles[T]) -> None:
        with self.storage.keep(name) as folder:
            files.save(result, folder)


class UnfinishedError(Exception):
    """A phase of a training is not there, or not whole any more."""


@dataclass(frozen=True)
class FinishedPhases:
    """The `PhaseStore` of a training that was carried out elsewhere: computes nothing, and compares the sums of what is read.

    A phase that is not whole is said and removed, and whoever reads it gets an UnfinishedError.
    """

    storage: Storage
    say: Say = say_nothing
    prefix: str = ""

    def once(self, phase: str, compute: Compute[T], files: PhaseFiles[T], report: Progress = silent) -> T:
        return files.open(partial(self._folder, self.prefix + phase))

    def mine(self, phase: str, compute: Callable[[], T], files: PhaseFiles[T], report: Progress = silent) -> Callable[[], T]:
        return partial(files.open, partial(self._folder, f"{self.prefix}{phase}/{parallel.worker_rank()}"))

    def under(self, prefix: str) -> FinishedPhases:
        return FinishedPhases(self.storage, self.say, f"{self.prefix}{prefix}/")

    def _folder(self, name: str) -> Path:
        if not is_whole(self.storage, name, self.say):
            raise UnfinishedError(name)
        return self.storage.path(name)


def all_agree(fact: bool) -> bool:
    """Whether it is so on every worker; all of them wait here for each other, and all get the same answer."""
    return int(parallel.all_reduce_sum(torch.tensor([int(fact)]))) == parallel.num_workers()
