"""Resuming and warm start: the checkpoint of an interrupted fit, and an older model to start from.

A fit of many steps (sweeps, epochs) calls `CheckpointStore.last` before its first step and `CheckpointStore.keep` after each.
The caller decides where checkpoints are stored. By default there are no checkpoints and no older model. Knows no file and no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from features.domain import NO_TRACK, Floats, Ints, SegueError

Source = TypeVar("Source")
State = Mapping[str, np.ndarray]
"""Everything the next step depends on, by name; random generators as their seeds."""


class Checkpoint(NamedTuple):
    """A fit after `done` steps."""

    done: int
    """The same on every worker."""
    own: State
    """This worker's part of what is sharded."""
    shared: State
    """What is the same on every worker."""


class CheckpointStore(Protocol):
    """Saves and loads the checkpoints of a fit. Every worker must call each method the same number of times."""

    def last(self) -> Checkpoint | None:
        """The last checkpoint that all workers saved; None if there is none."""
        ...

    def keep(self, reached: Checkpoint) -> None:
        """Saves this step; earlier steps may be deleted. `shared` is taken from worker 0. No array is read after the call returns."""
        ...


class NoCheckpoints:
    """A checkpoint store that saves nothing."""

    def last(self) -> Checkpoint | None:
        return None

    def keep(self, reached: Checkpoint) -> None:
        pass


NO_CHECKPOINTS = NoCheckpoints()


@dataclass(frozen=True)
class WarmStart:
    """A source trained by the same recipe on earlier data."""

    source: object
    """A retriever of whatever kind; `source_of` narrows it."""
    rows: Ints
    """(num_tracks,) the index in the older model of each track of the new vocabulary; NO_TRACK if it has none."""

    def of_tracks(self, values: Floats) -> Floats:
        """(num_tracks, dim) the older model's `values` (its tracks, dim) by the new vocabulary; zeros where it has none."""
        carried = np.zeros((len(self.rows), values.shape[1]), np.float32)
        known = np.flatnonzero(self.rows != NO_TRACK)
        carried[known] = values[self.rows[known]]
        return carried

    def source_of(self, kind: type[Source]) -> Source:
        """The source, checked to be of type `kind`; SegueError otherwise."""
        if not isinstance(self.source, kind):
            raise SegueError(f"older model: expected a source that is {kind.__name__}, found {type(self.source).__name__}. Train afresh")
        return self.source


@dataclass(frozen=True)
class TrainingContext:
    """What a fit can start from: checkpoints and an older model."""

    steps: CheckpointStore = NO_CHECKPOINTS
    older: WarmStart | None = None
    effort: float = 1.0
    """The share of its steps that a fit takes; less than 1 where an older model makes the rest unnecessary."""

    def left(self, steps: int) -> range:
        """Those of a recipe's `steps` that a fit takes: where there is an older model, it stands for the first."""
        return range(steps - ceil(self.effort * steps) if self.older else 0, steps)


FROM_SCRATCH = TrainingContext()
