"""Training in epochs that can be resumed: an interrupted run gives the same result as an uninterrupted one.

Input: the training state (parameters and optimizers) and a checkpoint store. Output: the remaining epochs. Each epoch has its
own random generator, so no generator state is saved. Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from stages.resume import Checkpoint, CheckpointStore, State


@dataclass(frozen=True)
class TrainingState:
    """Everything that an epoch changes; the same on every worker."""

    tensors: Mapping[str, torch.Tensor]
    """Tables and layers."""
    optimizers: Sequence[torch.optim.Optimizer]

    def arrays(self) -> State:
        """The whole state by name. The arrays share memory with the tensors: the next epoch changes them."""
        found = {name: tensor.detach().numpy() for name, tensor in self.tensors.items()}
        for prefix, optimizer in self._named():
            for parameter, moments in optimizer.state_dict()["state"].items():
                found |= {f"{prefix}{parameter}.{name}": np.asarray(value) for name, value in moments.items()}
        return found

    def restore(self, arrays: State) -> None:
        """Sets the state to `arrays`, the result of an earlier call of `arrays()`; the values are copied."""
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
    """The remaining `planned` epochs, each with its random generator. Resumes from the last checkpoint, if there is one; after
    each epoch (the body of the loop) the `state` is saved."""
    reached = steps.last()
    if reached:
        state.restore(reached.shared)
    for epoch in range(reached.done if reached else planned.start, planned.stop):
        yield epoch, np.random.default_rng([seed, epoch])
        steps.keep(Checkpoint(epoch + 1, {}, state.arrays()))
