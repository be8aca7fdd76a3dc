"""Training in epochs: who goes on after an interruption ends where nobody was interrupted.

Input: all that an epoch changes, and what an interrupted run kept of it. Output: the epochs that are left. Each draws from a
generator of its own, so that no generator is kept. Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from stages.resume import Checkpoint, CheckpointStore, State


@dataclass(frozen=True)
class TrainingState:
    """All that an epoch changes, as it stands; the same on every worker."""

    tensors: Mapping[str, torch.Tensor]
    """Tables and layers."""
    optimizers: Sequence[torch.optim.Optimizer]

    def arrays(self) -> State:
        """All of it by name, where it is learned: the next epoch changes these very arrays."""
        found = {name: tensor.detach().numpy() for name, tensor in self.tensors.items()}
        for prefix, optimizer in self._named():
            for parameter, moments in optimizer.state_dict()["state"].items():
                found |= {f"{prefix}{parameter}.{name}": np.asarray(value) for name, value in moments.items()}
        return found

    def restore(self, arrays: State) -> None:
        """Sets everything to what `arrays` once gave; the arrays themselves are copied."""
        for name, tensor in self.tensors.items():
            np.copyto(tensor.detach().numpy(), arrays[name])
        for prefix, optimizer in self._named():
            state = optimizer.state_dict()
            for name in (name for name in arrays if name.startswith(prefix)):
                parameter, moment = name.removeprefix(prefix).split(".")
                state["state"].setdefault(int(parameter), {})[moment] = _value(arrays[name])
            optimizer.load_state_dict(state)

    def _named(self) -> Iterator[tuple[str, torch.optim.Optimizer]]:
        return ((f"optimizer.{place}.", optimizer) for place, optimizer in enumerate(self.optimizers))


def _value(array: np.ndarray) -> torch.Tensor | int:
    """A count of steps as an int where it was one: an optimizer that counts in tensors rounds otherwise."""
    return int(array) if array.ndim == 0 and np.issubdtype(array.dtype, np.integer) else torch.tensor(array)


def epochs_left(planned: range, seed: int, state: TrainingState, steps: CheckpointStore) -> Iterator[tuple[int, np.random.Generator]]:
    """Those of the `planned` epochs that no earlier run kept, each with what it may draw from; once the loop's body has made
    one, the `state` is kept."""
    reached = steps.last()
    if reached:
        state.restore(reached.shared)
    for epoch in range(reached.done if reached else planned.start, planned.stop):
        yield epoch, np.random.default_rng([seed, epoch])
        steps.keep(Checkpoint(epoch + 1, {}, state.arrays()))
