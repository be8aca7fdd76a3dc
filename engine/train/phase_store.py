"""Where the phases of a training keep their results: the three verbs that the plan is told with, and the store in memory.

Input: the name of a phase, how to compute it, and how its result is written to files. Output: the result, computed now or found.
The store in memory only calls the function; the one over files (`run_store`) resumes. Knows no phase, no file and no Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from features.progress import Progress, silent
from stages.resume import NO_CHECKPOINTS, CheckpointStore

T = TypeVar("T")
Folder = Callable[[], Path]
"""Where the files of a finished phase can be read; behind a URI the first call fetches them."""
Compute = Callable[[CheckpointStore], T]
"""Computes a phase; one that takes many steps saves them as checkpoints and resumes from the last."""


class PhaseFiles(Protocol[T]):
    """How the result of a phase is written to files."""

    def save(self, result: T, folder: Path) -> None:
        """Writes `result` into the empty `folder`."""
        ...

    def open(self, folder: Folder) -> T:
        """What `save` wrote; large parts are read when they are used."""
        ...


class PhaseStore(Protocol):
    """The results of the phases of one training. All workers call the same verbs in the same order."""

    def once(self, phase: str, compute: Compute[T], files: PhaseFiles[T], report: Progress = silent) -> T:
        """One result for all workers: they compute it together, worker 0 saves it, all open it.

        A result that an earlier run saved is opened instead, and reported as done.
        """
        ...

    def mine(self, phase: str, compute: Callable[[], T], files: PhaseFiles[T], report: Progress = silent) -> Callable[[], T]:
        """A result of this worker's own; returns how to open it, for it may be large and is used later."""
        ...

    def under(self, prefix: str) -> PhaseStore:
        """The same store for phases whose names begin with `prefix`."""
        ...


class MemoryStore:
    """Saves nothing: every phase is computed, and its result stays what it is."""

    def once(self, phase: str, compute: Compute[T], files: PhaseFiles[T], report: Progress = silent) -> T:
        return compute(NO_CHECKPOINTS)

    def mine(self, phase: str, compute: Callable[[], T], files: PhaseFiles[T], report: Progress = silent) -> Callable[[], T]:
        result = compute()
        return lambda: result

    def under(self, prefix: str) -> MemoryStore:
        return self


MEMORY = MemoryStore()


def no_network() -> Mapping[str, Any] | None:
    """The parameters that join LightGBM's workers: none, where there is one."""
    return None
