"""Alternating least squares for implicit feedback, with exact fold-in of queries it has never seen.

Input: who holds what. Output: track vectors, and for any seed set the playlist vector that explains it best.

The loss is that of Hu, Koren and Volinsky (2008), with the frequency-scaled regularisation of Rendle, Krichene, Zhang
and Koren, "Revisiting the Performance of iALS on Item Recommendation Benchmarks" (2021):

    sum over all (u, i) of c_ui (r_ui - x_u . y_i)^2  +  sum_u w_u |x_u|^2  +  sum_i w_i |y_i|^2
    r_ui = 1 where playlist u holds track i, else 0;  c_ui = 1 + a * plays_ui where it does, else 1
    w_u = a * lambda * (n_u + num_tracks / a)^nu, w_i likewise with n_i and num_playlists

`a` sets the weight of what is not observed (1 / (1 + a) of what is). With biases x_u . y_i becomes x_u . y_i + b_u + b_i, by two
coordinates more of which each side holds one fixed at 1. With a half-life a track counts the less, the further it is from its
playlist's end: a = a * 2^(-distance / half-life), for seeds too. Each half sweep solves one side by a few steps of
conjugate gradients from where it stands (Takacs, Pilaszy and Tikk 2011), see `training.py`.
Knows no title, no content and no Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from scipy.linalg.lapack import dposv

from features.domain import Floats, Offsets, Queries, Retrieved
from features.npy import load_array, save_array
from features.ragged import Ragged
from stages.retrieve.index.protocol import Index
from stages.retrieve.index.recipe import IndexRecipe
from stages.retrieve.recipe import Recipe
from stages.retrieve.vectors import open_vectors, save_vectors


class AlsRecipe(Recipe):
    """Dimensions, weights and sweeps."""

    kind: Literal["als"] = "als"
    dim: int = Field(128, ge=1, le=4096)
    confidence: float = Field(100.0, gt=0)
    """a of the loss: how much more one play weighs than its absence."""
    regularization: float = Field(0.01, ge=0)
    """lambda of the loss."""
    frequency_exponent: float = Field(1.0, ge=0, le=1)
    """nu of the loss: 0 treats all alike, 1 scales with what a playlist or track has."""
    biases: bool = False
    """A bias for every playlist and track, regularised like their factors."""
    half_life: float | None = Field(None, gt=0)
    """Tracks from a playlist's end at which one counts half; null: all count alike. Tables with timestamps are in their order."""
    sweeps: int = Field(12, ge=1)
    cg_steps: int = Field(2, ge=1)
    index: IndexRecipe = IndexRecipe()

    def fold_in(self, gram: Floats, columns: Floats, plays: Floats, num_columns: int) -> Floats:
        """(width,) the least-squares vector, in closed form, of a row that holds `columns` (c, width) with `plays` (c,);
        `gram` (width, width) is that of all `num_columns` columns."""
        extra = np.float32(self.confidence) * plays
        system = (columns.T * extra) @ columns
        system += gram
        system.ravel()[:: len(system) + 1] += self.row_weights(np.array(len(columns)), num_columns)
        target = (1 + extra) @ columns
        fixed = self.fixed_of_playlists
        if fixed is not None:  # that coordinate is 1: its column goes to the other side, and its own equation says so
            target -= system[fixed]
            system[fixed], system[:, fixed] = 0, 0
            system[fixed, fixed] = target[fixed] = 1
        return _solved(system, target)

    def open(self, folder: Path, num_tracks: int) -> Als:
        vectors = open_vectors(folder, (num_tracks, self.width))
        gram = load_array(folder / "gram.npy", dtype=np.float32, shape=(self.width, self.width))
        return Als(self, vectors, gram, self.index.open(folder, vectors))

    @property
    def width(self) -> int:
        """Coordinates of a vector: with biases the last two are the track's bias and the playlist's, each against a 1."""
        return self.dim + 2 * self.biases

    @property
    def fixed_of_playlists(self) -> int | None:
        """The coordinate of a playlist's vector that is 1 and stays 1: the one that meets the track's bias."""
        return self.dim if self.biases else None

    @property
    def fixed_of_tracks(self) -> int | None:
        return self.dim + 1 if self.biases else None

    def recency(self, offsets: Offsets) -> Floats:
        """(nnz,) how much each entry of a ragged batch counts, by its distance from the end of its row."""
        if self.half_life is None:
            return np.ones(int(offsets[-1]), np.float32)
        distance = np.repeat(offsets[1:], np.diff(offsets)) - np.arange(offsets[-1]) - 1
        return np.asarray(0.5 ** (distance / self.half_life), np.float32)

    def row_weights(self, counts: np.ndarray, num_columns: int) -> Floats:
        """(rows,) w of the loss for rows with `counts` entries against `num_columns` columns."""
        reach = counts + num_columns / self.confidence
        return (self.confidence * self.regularization * reach**self.frequency_exponent).astype(np.float32)


def _solved(system: Floats, target: np.ndarray) -> Floats:
    """The solution of a symmetric system, by Cholesky in double precision; by the slower way for any where rounding leaves it
    not positive definite."""
    _, solved, failed = dposv(system.T, target)
    return np.linalg.solve(system, target) if failed else solved.astype(np.float32)


@dataclass(frozen=True)
class Als:
    """Trained: track vectors, their Gram matrix and an index over the tracks that some playlist holds."""

    recipe: AlsRecipe
    track_vectors: Floats
    """(num_tracks, width)"""
    gram: Floats
    """(width, width) sum over all tracks of y y'."""
    index: Index

    @property
    def track_biases(self) -> Floats | None:
        """(num_tracks,) what a track gains with every playlist; None without biases."""
        return self.track_vectors[:, self.recipe.dim] if self.recipe.biases else None

    def query_vectors(self, queries: Queries) -> Floats:
        """(q, width) the least-squares playlist vector of each query's seeds, in closed form; zeros without seeds."""
        vectors = np.zeros((len(queries), self.recipe.width), np.float32)
        plays = Ragged(self.recipe.recency(queries.seeds.offsets), queries.seeds.offsets)
        for i in np.flatnonzero(queries.seed_counts()).tolist():
            seeds = self.track_vectors[queries.seeds_of(i)]
            vectors[i] = self.recipe.fold_in(self.gram, seeds, plays.row(i), len(self.track_vectors))
        return vectors

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        return self.index.search(self.query_vectors(queries), queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        save_vectors(folder, self.track_vectors)
        save_array(folder / "gram.npy", self.gram)
        bias = {"bias_coordinate": self.recipe.dim} if self.recipe.biases else {}
        return {"kind": "als", "dimension": self.recipe.width, "metric": "inner product", **bias, **self.index.save(folder)}
