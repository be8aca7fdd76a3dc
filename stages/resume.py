"""What a fit may go on from: the state its own interrupted run left behind, and the older model it starts warm from.

A recipe that fits in many steps (sweeps, epochs) asks `Steps.last` before its first and calls `Steps.keep` after each; where
the states lie is the caller's business. By itself nothing is kept and nothing is older. Knows no file and no Ray.
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
"""All that the next step depends on, by name; random generators too, as the numbers that seed them."""


class Checkpoint(NamedTuple):
    """A fit after `done` steps."""

    done: int
    """The same on every worker."""
    own: State
    """This worker's part of what is sharded."""
    shared: State
    """What every worker holds alike."""


class CheckpointStore(Protocol):
    """Where an interrupted fit left off. Every worker calls both methods equally often."""

    def last(self) -> Checkpoint | None:
        """The last state that all workers kept; None where the fit has to begin at its beginning."""
        ...

    def keep(self, reached: Checkpoint) -> None:
        """What lies there from an earlier step may go. `shared` is worker 0's; no array is looked at after the call."""
        ...


class NoCheckpoints:
    """Steps that are not kept."""

    def last(self) -> Checkpoint | None:
        return None

    def keep(self, reached: Checkpoint) -> None:
        pass


NO_CHECKPOINTS = NoCheckpoints()


@dataclass(frozen=True)
class WarmStart:
    """A trained source of the same recipe, from data that came before."""

    source: object
    """A retriever of whatever kind; `source_of` narrows it."""
    rows: Ints
    """(num_tracks,) where the older model has each track of the new vocabulary; NO_TRACK where it does not."""

    def of_tracks(self, values: Floats) -> Floats:
        """(num_tracks, dim) the older model's `values` (its tracks, dim) by the new vocabulary; zeros where it has none."""
        carried = np.zeros((len(self.rows), values.shape[1]), np.float32)
        known = np.flatnonzero(self.rows != NO_TRACK)
        carried[known] = values[self.rows[known]]
        return carried

    def source_of(self, kind: type[Source]) -> Source:
        """The source, which is what its recipe makes; anything else is an error."""
        if not isinstance(self.source, kind):
            raise SegueError(f"older model: expected a source that is {kind.__name__}, found {type(self.source).__name__}. Train afresh")
        return self.source


@dataclass(frozen=True)
class TrainingContext:
    """What is there to go on from."""

    steps: CheckpointStore = NO_CHECKPOINTS
    older: WarmStart | None = None
    effort: float = 1.0
    """The share of its steps that a fit takes; less than 1 where an older model makes the rest unnecessary."""

    def left(self, steps: int) -> range:
        """Those of a recipe's `steps` that a fit takes: where there is an older model, it stands for the first."""
        return range(steps - ceil(self.effort * steps) if self.older else 0, steps)


FROM_SCRATCH = TrainingContext()
