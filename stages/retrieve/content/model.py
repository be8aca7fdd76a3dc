"""A trained content source: proposes tracks with features similar to the seeds', including cold-start tracks.

Input: a vector for every track, from one of the trainings (`training/`). Output: the tracks whose vectors point in the direction
of the seeds' mean. Vectors are centred and of length 1, so that scores are cosines. A track that no playlist holds is in the same
index as all others, and has the same kind of vector. Knows no playlist and no Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from features.domain import Floats, Ints
from features.unit_length import unit
from stages.retrieve.vectors import VectorSource


@dataclass(frozen=True, repr=False)
class Content(VectorSource):
    """Trained: a vector of length 1 for every track whose content says something, zeros for the others."""

    def query_vector(self, seeds: Ints) -> Floats:
        """The direction of the seeds' mean, so that scores are cosines."""
        return unit(self.track_vectors[seeds].mean(axis=0))

    def facts(self) -> dict[str, Any]:
        dimension = int(self.track_vectors.shape[1])
        return {"kind": "content", "model": self.recipe.kind, "dimension": dimension, "metric": "cosine"}
