"""Tracks that are like the seeds, played before or not: what every content model ends in.

Input: a vector for every track, from whichever model (`cosine.py`, `contractive.py`, `transformer.py`). Output: the tracks
whose vectors point where the seeds' point on average. Vectors are centred and brought to length 1, so that scores are
cosines. A track that no playlist holds is in the same index as all others, and has the same kind of vector.
Knows no model, no playlist and no Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.domain import Floats, Queries, Retrieved
from stages.protocols import TrainingData, require_finite
from stages.retrieve.index.recipe import Index, IndexRecipe
from stages.retrieve.index.selection import with_chosen_index
from stages.retrieve.vectors import open_vectors, save_vectors

FAINT = 1e-5
"""A vector nearer than this to the mean differs from it by rounding alone."""


@dataclass(frozen=True)
class Content:
    """Trained: a vector of length 1 for every track whose content says something, zeros for the others."""

    model: str
    """Which recipe made the vectors."""
    track_vectors: Floats
    """(num_tracks, dim)"""
    index: Index

    @classmethod
    def of(cls, model: str, embedded: Floats, index: IndexRecipe, visible: TrainingData) -> Content:
        """`embedded` (num_tracks, dim) as the model gives it: anything but finite numbers is a SegueError."""
        vectors = unit_rows_about_the_mean(require_finite("content vectors", embedded))
        known = np.flatnonzero(vectors.any(axis=1)).astype(np.int32)
        return with_chosen_index(cls(model, vectors, index.build(vectors, known, visible.seed)), index, visible)

    @classmethod
    def silent(cls, model: str, dim: int, index: IndexRecipe, visible: TrainingData) -> Content:
        """Nothing but ids is known: the source is there and says nothing."""
        return cls.of(model, np.zeros((visible.num_tracks, dim), np.float32), index, visible)

    @classmethod
    def open(cls, model: str, folder: Path, shape: tuple[int, int | None], index: IndexRecipe) -> Content:
        """`shape` (num_tracks, dim), None where any dim is right."""
        vectors = open_vectors(folder, shape)
        return cls(model, vectors, index.open(folder, vectors))

    @property
    def track_biases(self) -> None:
        return None

    def query_vectors(self, queries: Queries) -> Floats:
        """(q, dim) the direction of the seeds' mean, so that scores are cosines; zeros without seeds."""
        vectors = np.zeros((len(queries), self.track_vectors.shape[1]), np.float32)
        for i in np.flatnonzero(queries.seed_counts()).tolist():
            mean = self.track_vectors[queries.seeds_of(i)].mean(axis=0)
            vectors[i] = mean / max(float(np.linalg.norm(mean)), 1e-9)
        return vectors

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        return self.index.search(self.query_vectors(queries), queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        save_vectors(folder, self.track_vectors)
        dimension = int(self.track_vectors.shape[1])
        return {"kind": "content", "model": self.model, "dimension": dimension, "metric": "cosine", **self.index.save(folder)}


def unit_rows_about_the_mean(matrix: Floats) -> Floats:
    """Each row less the mean row, at length 1; zeros where nothing is left.

    Without the mean taken away, rows that are never negative, as those of ReLU units, have all cosines near 1.
    """
    centred = (matrix - matrix.mean(axis=0, dtype=np.float64)).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: Floats = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > FAINT)
    return unit
