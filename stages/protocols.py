"""The interface of a trained retriever.

A recipe (`stages.retrieve.recipe`) holds settings; `fit` turns it into a trained source. They are two types, so no object is
ever half trained. A source saves itself into its own folder in plain formats and is opened from that folder; the engine
verifies the files first. Knows no Ray.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from features.domain import Floats, Queries, Retrieved, SegueError


class Retriever(Protocol):
    """A trained source: proposes tracks for queries it has never seen."""

    @property
    def track_vectors(self) -> Floats | None:
        """(num_tracks, dim) where the source's scores are inner products in a space of its own; None where they are not."""
        ...

    @property
    def track_biases(self) -> Floats | None:
        """(num_tracks,) the bias of each track, added to its score for every query; None where the source learns no biases."""
        ...

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        """The best `n` tracks of each query: never a seed or an excluded track, best first, ties by track index.

        A query this source can say nothing about (no title for the title source, say) gets a row of NO_TRACK.
        """
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes plain files into the existing, empty `folder`; returns what the manifest should say of it."""
        ...


def require_finite(name: str, values: np.ndarray) -> np.ndarray:
    """A model that diverged must not be saved: NaN and infinity are an error here, not an odd answer later."""
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise SegueError(f"{name}: expected finite numbers, found {bad} that are not. Lower the learning rate or raise the regularisation")
    return values
