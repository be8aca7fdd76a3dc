"""Sources that search vectors: one array of track vectors, one index over it.

Input: track vectors of some training, or the folder they were saved into, from which they are mapped into memory, shared by every
process that reads them. Output: the tracks of the largest inner products with a query's vector. Knows no model.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.arrays import floats
from features.domain import Floats, Ints, Queries, Retrieved, counted
from features.npy import load_array, save_array
from stages.retrieve.index.protocol import Index
from stages.retrieve.recipe import Recipe
from stages.retrieve.source import Source

FILE = "track_vectors.npy"


@dataclass(frozen=True, repr=False)
class VectorSource(Source):
    """A source whose scores are inner products of a query's vector and each track's."""

    recipe: Recipe
    track_vectors: Floats
    """(num_tracks, dim)"""
    index: Index

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

    def write(self, folder: Path) -> dict[str, Any]:
        save_vectors(folder, self.track_vectors)
        self.write_parts(folder)
        return {**self.facts(), **self.index.save(folder)}

    def write_parts(self, folder: Path) -> None:
        """Writes what the source has besides its vectors and its index."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the manifest should say of the source, but for its index."""

    @property
    def dimensions(self) -> str:
        return counted(self.track_vectors.shape[1], "dimension")

    @property
    def size(self) -> str:
        return f"{counted(len(self.track_vectors), 'track')} x {self.dimensions}, {self.index.kind} index"


def save_vectors(folder: Path, vectors: Floats) -> None:
    save_array(folder / FILE, vectors)


def open_vectors(folder: Path, shape: tuple[int, int | None]) -> Floats:
    """(num_tracks, dim) mapped read-only; SegueError for another shape than `shape`, where None stands for any size."""
    return load_array(folder / FILE, floats(*shape), mmap=True)
