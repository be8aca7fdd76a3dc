"""Checkpoints of a phase, in the files of its run: so that a fit resumes from its last sweep or epoch.

Input: the state each worker reached after a step. Output: the same, when the fit is started again. Two checkpoints of a phase are
there at most, the last and the one before it: a worker may have been killed before it saved what the others had saved already, and
one that is not as it was saved is said and not used. Knows no recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from engine.train.storage import Say, Storage, is_whole, say_nothing
from stages import parallel
from stages.resume import Checkpoint, State

OWN, SHARED, STEP = "own.safetensors", "shared.safetensors", "step.txt"
PLACES = 2
NEVER = -1


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one phase: a `stages.resume.CheckpointStore`."""

    storage: Storage
    phase: str
    say: Say = say_nothing

    def last(self) -> Checkpoint | None:
        own = [self._step(place) for place in range(PLACES)]
        of_workers = parallel.all_gather(torch.tensor(own)).numpy().reshape(-1, PLACES)
        on_all = [step for step in own if step != NEVER and (of_workers == step).any(axis=1).all()]
        if not on_all:
            return None
        done = max(on_all)
        return Checkpoint(done, self._load(done, parallel.worker_rank(), OWN), self._load(done, 0, SHARED))

    def keep(self, reached: Checkpoint) -> None:
        rank = parallel.worker_rank()
        with self.storage.keep(self._place(reached.done, rank), durable=False) as folder:
            save_file(_plain(reached.own), folder / OWN)
            if rank == 0:
                save_file(_plain(reached.shared), folder / SHARED)
            (folder / STEP).write_text(str(reached.done), encoding="ascii")

    def drop(self) -> None:
        """Of this worker; the phase is finished."""
        for place in range(PLACES):
            self.storage.drop(self._place(place, parallel.worker_rank()))

    def _place(self, step: int, rank: int) -> str:
        return f"{self.phase} steps/{rank}/{step % PLACES}"

    def _step(self, place: int) -> int:
        """The step this worker saved there, NEVER if none, or none that is whole."""
        phase = self._place(place, parallel.worker_rank())
        if not is_whole(self.storage, phase, self.say):
            return NEVER
        return int((self.storage.path(phase) / STEP).read_text(encoding="ascii"))

    def _load(self, done: int, rank: int, file: str) -> State:
        return load_file(self.storage.path(self._place(done, rank)) / file)


def _plain(state: State) -> dict[str, np.ndarray]:
    """A view that is not contiguous would be saved in another order than it is read in."""
    return {name: np.ascontiguousarray(array) for name, array in state.items()}
