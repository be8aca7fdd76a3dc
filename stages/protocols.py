"""What a trained retriever promises, and how training reports its progress.

A recipe (`stages.retrieve.recipe`) and a trained source are two types: `fit` turns one into the other, so no object is ever half
trained. A source saves itself into a folder of its own in plain formats and is opened again from that folder; the engine checks
the folder's files before. Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from features.domain import Floats, Queries, Retrieved, SegueError

Report = Callable[[str, float, Mapping[str, float]], None]
"""Called with (phase, share done in 0…1, figures such as the loss); how it is shown is the caller's business."""


def silent(phase: str, done: float, figures: Mapping[str, float]) -> None:
    """A Report that shows nothing."""


def staged(report: Report, stage: str) -> Report:
    """A report whose phases are told apart from those of the same source in another stage; `stage` may be empty."""
    return lambda phase, done, figures: report(f"{stage} {phase}".strip(), done, figures)


def named(report: Report, source: str) -> Report:
    """A report by a source's name in the config, whatever its recipe calls it: two sources may be of one kind."""
    return lambda _, done, figures: report(source, done, figures)


class Retriever(Protocol):
    """A trained source: proposes tracks for queries it has never seen."""

    @property
    def track_vectors(self) -> Floats | None:
        """(num_tracks, dim) where the source's scores are inner products in a space of its own; None where they are not."""
        ...

    @property
    def track_biases(self) -> Floats | None:
        """(num_tracks,) what a track gains with every query, of a source that learns it; None of the others."""
        ...

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        """The best `n` tracks of each query: never a seed or an excluded track, best first, ties by track index.

        A query this source can say nothing about (no title for the title source, say) gets a row of NO_TRACK.
        """
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes plain files into the existing, empty `folder`; returns what the manifest should say of it."""
        ...


class NoSpace:
    """Of a source whose scores are no inner products."""

    track_vectors: None = None
    track_biases: None = None


def require_finite(name: str, values: np.ndarray) -> np.ndarray:
    """A model that diverged must not be saved: NaN and infinity are an error here, not an odd answer later."""
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise SegueError(f"{name}: expected finite numbers, found {bad} that are not. Lower the learning rate or raise the regularisation")
    return values
