"""What all trained sources share: one query or a batch, how they are shown, and the body of those that search vectors.

Input: what a fit computed, or a folder that a source was saved into. Output: the best tracks of each query. Knows no model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.domain import Floats, Ints, Queries, Query, Retrieved, SegueError
from stages.retrieve.index.protocol import Index
from stages.retrieve.recipe import Recipe
from stages.retrieve.vectors import save_vectors


class Source(ABC):
    """A trained retriever. Each kind answers a batch; one query is a batch of one."""

    def retrieve(self, queries: Query | Queries, n: int) -> Retrieved:
        """(q, n) the best tracks of each query of a batch, or (1, n) those of one query, padded with NO_TRACK.

        Never a seed or an excluded track; best first, equal scores by track index. SegueError for anything but queries.
        """
        if isinstance(queries, Query):
            return self.retrieve_batch(Queries.of([queries]), n)
        if isinstance(queries, Queries):
            return self.retrieve_batch(queries, n)
        raise SegueError(f"retrieve: expected a Query or Queries, found {type(queries).__name__}. Make one with `dataset.query(...)`")

    @abstractmethod
    def retrieve_batch(self, queries: Queries, n: int) -> Retrieved:
        """What `retrieve` promises, for a batch."""

    @abstractmethod
    def save(self, folder: Path) -> dict[str, Any]:
        """Writes plain files into the existing, empty `folder`; returns what the manifest should say of the source."""

    @property
    @abstractmethod
    def size(self) -> str:
        """What was learned, in numbers: `600 tracks x 64 factors`."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.size}>"


class WithoutVectors(Source):
    """A source whose scores are no inner products."""

    track_vectors: None = None
    track_biases: None = None


@dataclass(frozen=True, repr=False)
class VectorSource(Source):
    """A source whose scores are inner products of a query's vector and each track's."""

    recipe: Recipe
    track_vectors: Floats
    """(num_tracks, dim)"""
    index: Index

    @property
    def track_biases(self) -> Floats | None:
        """(num_tracks,) what a track gains with every query; None where a source learns no such number."""
        return None

    def query_vectors(self, queries: Queries) -> Floats:
        """(q, dim) the vector each query is searched with; zeros where the source can say nothing."""
        vectors = np.zeros((len(queries), self.track_vectors.shape[1]), np.float32)
        for i in np.flatnonzero(queries.seed_counts()).tolist():
            vectors[i] = self.query_vector(queries.seeds_of(i))
        return vectors

    @abstractmethod
    def query_vector(self, seeds: Ints) -> np.ndarray:
        """(dim,) for `seeds` (at least one); zeros where none of them is known."""

    def retrieve_batch(self, queries: Queries, n: int) -> Retrieved:
        return self.index.search(self.query_vectors(queries), queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        save_vectors(folder, self.track_vectors)
        self.save_parts(folder)
        return {**self.facts(), **self.index.save(folder)}

    def save_parts(self, folder: Path) -> None:
        """Writes what the source has besides its vectors and its index."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the manifest should say of the source, but for its index."""

    @property
    def dimensions(self) -> str:
        return f"{self.track_vectors.shape[1]} dimensions"

    @property
    def size(self) -> str:
        return f"{len(self.track_vectors):,} tracks x {self.dimensions}, {self.index.kind} index"
