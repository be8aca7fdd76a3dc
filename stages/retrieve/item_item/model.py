"""Item-item models: a sparse matrix of item-item weights; a track's score is the sum of the seeds' weights for it.

Input: a sparse matrix of weights from one of the trainings (`training/graph.py`, `training/slim.py`). Output: the tracks whose
weights, summed over the seeds, are largest. Knows no title, no content and no vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import scipy.sparse as sp
from pydantic import Field

from features.domain import Queries, Retrieved, counted
from stages.retrieve.recipe import Recipe
from stages.retrieve.source import WithoutVectors
from stages.retrieve.sparse import open_sparse, save_sparse
from stages.retrieve.sparse_sums import each_seed_once, top_of_sums


class GraphRecipe(Recipe):
    """Two steps through the graph of playlists and tracks: how steps are weighted, how many neighbours each track keeps."""

    kind: Literal["graph"] = "graph"
    neighbours: int = Field(300, ge=1)
    """Similar tracks that are stored for each track."""
    playlist_exponent: float = Field(1.0, ge=0)
    """p: how much less a playlist says the longer it is."""
    seed_exponent: float = Field(0.6, ge=0)
    """a: how much less a seed says the more playlists hold it."""
    candidate_exponent: float = Field(0.4, ge=0)
    """b: how much more evidence a track needs the more playlists hold it."""
    most_playlists: int = Field(2_000, ge=1)
    """Of a more popular seed an even sample of its playlists is used."""

    def read(self, folder: Path, num_tracks: int) -> Items:
        return Items.open(self.kind, folder, num_tracks)


class SlimRecipe(Recipe):
    """A regression on each track's neighbours: how many, how strongly they are shrunk, how much data is used."""

    kind: Literal["slim"] = "slim"
    neighbours: int = Field(100, ge=1)
    """Similar tracks that each track is regressed on."""
    ridge: float = Field(20.0, gt=0)
    """Regularisation of the regression."""
    shrinkage: float = Field(0.5, ge=0)
    """Ridge in proportion to the playlists that hold the neighbour, the same as dropping it out of that share of them."""
    least_playlists: int = Field(3, ge=1)
    """Tracks that fewer playlists hold are left out."""
    most_tracks: int = Field(50_000, ge=1)
    """Of more, those that most playlists hold are used."""
    most_entries: int = Field(5_000_000, ge=1)
    """A larger dataset is sampled down to playlists with about so many entries."""

    def read(self, folder: Path, num_tracks: int) -> Items:
        return Items.open(self.kind, folder, num_tracks)


@dataclass(frozen=True, repr=False)
class Items(WithoutVectors):
    """Trained: every track's weights for others."""

    model: str
    """The kind of the recipe that made the weights."""
    weights: sp.csr_matrix
    """(num_tracks, num_tracks) from a seed's row to the tracks it speaks for, positive where there is anything."""

    @classmethod
    def open(cls, model: str, folder: Path, num_tracks: int) -> Items:
        return cls(model, open_sparse(folder, "weights", (num_tracks, num_tracks)))

    @property
    def size(self) -> str:
        return f"{counted(self.weights.shape[0], 'track')}, {counted(self.weights.nnz, 'weight')} by {self.model}"

    def retrieve_batch(self, queries: Queries, n: int) -> Retrieved:
        return top_of_sums(self.weights, each_seed_once(queries), queries, n)

    def write(self, folder: Path) -> dict[str, Any]:
        save_sparse(folder, "weights", self.weights)
        return {"kind": "items", "model": self.model, "weights": int(self.weights.nnz), "metric": "summed weights"}
