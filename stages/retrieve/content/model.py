"""A trained content source: proposes tracks that are like the seeds, whether anyone has played them or not.

Input: a vector for every track, from one of the trainings (`training/`). Output: the tracks whose vectors point in the direction
of the seeds' mean. Vectors are centred and of length 1, so that scores are cosines. A track that no playlist holds is in the same
index as all others, and has the same kind of vector. Knows no playlist and no Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.domain import Floats, Queries, Retrieved
from stages.retrieve.index.protocol import Index
from stages.retrieve.index.recipe import IndexRecipe
from stages.retrieve.vectors import open_vectors, save_vectors


@dataclass(frozen=True)
class Content:
    """Trained: a vector of length 1 for every track whose content says something, zeros for the others."""

    model: str
    """The kind of the recipe that made the vectors."""
    track_vectors: Floats
    """(num_tracks, dim)"""
    index: Index

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
