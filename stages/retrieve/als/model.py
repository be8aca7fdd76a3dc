"""Alternating least squares for implicit feedback, with exact fold-in of new playlists.

Input: playlist-track interactions. Output: item vectors of the tracks, and the least-squares playlist vector of any seed set.

The loss is that of Hu, Koren and Volinsky (2008), with the frequency-scaled regularisation of Rendle, Krichene, Zhang
and Koren, "Revisiting the Performance of iALS on Item Recommendation Benchmarks" (2021):

    sum over all (u, i) of c_ui (r_ui - x_u . y_i)^2  +  sum_u w_u |x_u|^2  +  sum_i w_i |y_i|^2
    r_ui = 1 where playlist u holds track i, else 0;  c_ui = 1 + alpha * plays_ui where it does, else 1
    w_u = alpha * lambda * (n_u + num_tracks / alpha)^nu, w_i likewise with n_i and num_playlists

`alpha` sets the weight of what is not observed (1 / (1 + alpha) of what is). With biases x_u . y_i becomes x_u . y_i + b_u + b_i, by two
coordinates more of which each side holds one fixed at 1. With a half-life a track counts the less, the further it is from its
playlist's end: alpha * 2^(-distance / half-life), for seeds too. Each half sweep solves one side by a few steps of
conjugate gradients from where it stands (Takacs, Pilaszy and Tikk 2011), see `training.py`.
Knows no title, no content and no Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.linalg.lapack import dposv

from features.arrays import floats
from features.domain import Floats, Ints, Offsets, counted
from features.npy import load_array, save_array
from stages.retrieve.index.recipe import IndexRecipe
from stages.retrieve.recipe import Recipe
from stages.retrieve.vectors import VectorSource, open_vectors


class AlsRecipe(Recipe):
    """Factors, weights and iterations, spelled as the library implicit spells them."""

    old_names: ClassVar = {"dim": "factors", "confidence": "alpha", "sweeps": "iterations"}

    kind: Literal["als"] = "als"
    factors: int = Field(128, ge=1, le=4096)
    """Dimensions of the vectors."""
    alpha: float = Field(100.0, gt=0)
    """alpha of the loss: how much more one play weighs than its absence."""
    regularization: float = Field(0.01, ge=0)
    """lambda of the loss."""
    frequency_exponent: float = Field(1.0, ge=0, le=1)
    """nu of the loss: 0 treats all alike, 1 scales with what a playlist or track has."""
    biases: bool = False
    """A bias for every playlist and track, regularised like their factors."""
    half_life: float | None = Field(None, gt=0)
    """Tracks from a playlist's end at which one counts half; null: all count alike. Tables with timestamps are in their order."""
    iterations: int = Field(12, ge=1)
    """Sweeps: each solves for all playlists, then for all tracks."""
    cg_steps: int = Field(2, ge=1)
    """Steps of conjugate gradients for each row and half sweep."""
    index: IndexRecipe = IndexRecipe()

    def fold_in(self, gram: Floats, columns: Floats, plays: Floats, num_columns: int) -> Floats:
        """(width,) the least-squares vector, in closed form, of a row that holds `columns` (c, width) with `plays` (c,);
        `gram` (width, width) is that of all `num_columns` columns."""
        extra = np.float32(self.alpha) * plays
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

    def read(self, folder: Path, num_tracks: int) -> Als:
        vectors = open_vectors(folder, (num_tracks, self.width))
        gram = load_array(folder / "gram.npy", floats(self.width, self.width))
        return Als(self, vectors, self.index.open(folder, vectors), gram)

    @property
    def width(self) -> int:
        """Coordinates of a vector: with biases the last two are the track's bias and the playlist's, each against a 1."""
        return self.factors + 2 * self.biases

    @property
    def fixed_of_playlists(self) -> int | None:
        """The coordinate of a playlist's vector that is 1 and stays 1: the one that meets the track's bias."""
        return self.factors if self.biases else None

    @property
    def fixed_of_tracks(self) -> int | None:
        return self.factors + 1 if self.biases else None

    def recency(self, offsets: Offsets) -> Floats:
        """(nnz,) how much each entry of a ragged batch counts, by its distance from the end of its row."""
        if self.half_life is None:
            return np.ones(int(offsets[-1]), np.float32)
        distance = np.repeat(offsets[1:], np.diff(offsets)) - np.arange(offsets[-1]) - 1
        return np.asarray(0.5 ** (distance / self.half_life), np.float32)

    def row_weights(self, counts: np.ndarray, num_columns: int) -> Floats:
        """(rows,) w of the loss for rows with `counts` entries against `num_columns` columns."""
        reach = counts + num_columns / self.alpha
        return (self.alpha * self.regularization * reach**self.frequency_exponent).astype(np.float32)


def _solved(system: Floats, target: np.ndarray) -> Floats:
    """The solution of a symmetric system, by Cholesky in double precision; by the slower way for any, least squares, where rounding
    or a lack of regularisation leaves it not positive definite."""
    _, solved, failed = dposv(system.T, target)
    if failed and np.isfinite(system).all():
        solved = np.linalg.lstsq(system, target)[0]
    return np.asarray(solved, np.float32)


@dataclass(frozen=True, repr=False)
class Als(VectorSource):
    """Trained: track vectors, their Gram matrix and an index over the tracks that some playlist holds."""

    recipe: AlsRecipe
    gram: Floats
    """(width, width) sum over all tracks of y y'."""

    @property
    def track_biases(self) -> Floats | None:
        return self.track_vectors[:, self.recipe.factors] if self.recipe.biases else None

    def query_vector(self, seeds: Ints) -> Floats:
        """The least-squares vector of a playlist of `seeds`, in closed form."""
        plays = self.recipe.recency(np.array([0, len(seeds)]))
        return self.recipe.fold_in(self.gram, self.track_vectors[seeds], plays, len(self.track_vectors))

    def write_parts(self, folder: Path) -> None:
        save_array(folder / "gram.npy", self.gram)

    def facts(self) -> dict[str, Any]:
        bias = {"bias_coordinate": self.recipe.factors} if self.recipe.biases else {}
        return {"kind": "als", "dimension": self.recipe.width, "metric": "inner product", **bias}

    @property
    def dimensions(self) -> str:
        return counted(self.recipe.factors, "factor")
