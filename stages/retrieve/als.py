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
conjugate gradients from where it stands (Takacs, Pilaszy and Tikk 2011), all rows of a block at once. With several
workers each solves its shard of the playlists and of the tracks; Gram matrices are summed, solved rows are shared.
Knows no title, no content and no Ray.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import BaseModel, ConfigDict, Field

from features.arrays import load_array, save_array
from features.domain import Floats, Offsets, Queries, Retrieved
from stages import parallel
from stages.protocols import Report, Visible, require_finite, silent
from stages.retrieve.choice import with_chosen_index
from stages.retrieve.index import Index, IndexRecipe
from stages.retrieve.vectors import open_vectors, save_vectors

BLOCK_ENTRIES = 4_000_000
"""Entries solved at once; bounds the working memory of a half sweep."""


class AlsRecipe(BaseModel):
    """Dimensions, weights and sweeps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    cg_steps: int = Field(3, ge=1)
    index: IndexRecipe = IndexRecipe()

    def fit(self, visible: Visible, report: Report = silent) -> Als:
        matrix = visible.interactions.matrix.copy()
        matrix.data *= self.recency(visible.interactions.offsets)
        vectors = require_finite("als track vectors", self.factorize(matrix, visible.seed, report))
        held = np.flatnonzero(visible.interactions.track_counts).astype(np.int32)
        als = Als(self, vectors, vectors.T @ vectors, self.index.build(vectors, held, visible.seed))
        return with_chosen_index(als, self.index, visible)

    def factorize(self, plays: sp.csr_matrix, seed: int, report: Report) -> Floats:
        """(columns, width) the vectors of the columns of `plays` (rows, columns)."""
        rows, columns = self._start(plays.shape, seed)
        of_rows = _Side.of(plays, self, self.fixed_of_playlists)
        of_columns = _Side.of(plays.T.tocsr(), self, self.fixed_of_tracks)
        for sweep in range(self.sweeps):
            of_rows.solve(rows, columns)
            loss = of_columns.solve(columns, rows)
            report("als", (sweep + 1) / self.sweeps, {"loss": loss})
        return np.asarray(columns.numpy())

    def fold_in(self, gram: Floats, columns: Floats, plays: Floats, num_columns: int) -> Floats:
        """(width,) the least-squares vector, in closed form, of a row that holds `columns` (c, width) with `plays` (c,);
        `gram` (width, width) is that of all `num_columns` columns."""
        extra = np.float32(self.confidence) * plays
        system = gram + (columns.T * extra) @ columns
        system[np.diag_indices_from(system)] += self.row_weights(np.array(len(columns)), num_columns)
        target = (1 + extra) @ columns
        fixed = self.fixed_of_playlists
        if fixed is not None:  # that coordinate is 1: its column goes to the other side, and its own equation says so
            target -= system[fixed]
            system[fixed], system[:, fixed] = 0, 0
            system[fixed, fixed] = target[fixed] = 1
        solved: Floats = np.linalg.solve(system, target)
        return solved

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

    def _start(self, shape: tuple[int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Small random factors, the same on every worker."""
        generator = torch.Generator().manual_seed(seed)
        scale = 0.1 / np.sqrt(self.dim)
        playlists, tracks = (torch.randn(rows, self.width, generator=generator) * scale for rows in shape)
        if self.biases:
            playlists[:, self.fixed_of_playlists], tracks[:, self.fixed_of_tracks] = 1, 1
        return playlists, tracks

    def row_weights(self, counts: np.ndarray, num_columns: int) -> Floats:
        """(rows,) w of the loss for rows with `counts` entries against `num_columns` columns."""
        reach = counts + num_columns / self.confidence
        return (self.confidence * self.regularization * reach**self.frequency_exponent).astype(np.float32)


@dataclass(frozen=True)
class _Side:
    """One half of the matrix as seen from its rows: this worker's shard of them."""

    matrix: sp.csr_matrix
    """(rows of the shard, columns) the extra confidence a * plays of each entry."""
    weights: torch.Tensor
    """(rows of the shard,) the regularisation of each row."""
    cg_steps: int
    fixed: int | None
    """The coordinate of the rows that is not solved for."""

    @classmethod
    def of(cls, plays: sp.csr_matrix, recipe: AlsRecipe, fixed: int | None = None) -> _Side:
        start, stop = parallel.shard(plays.shape[0])
        matrix = plays[start:stop] * np.float32(recipe.confidence)
        weights = recipe.row_weights(np.diff(matrix.indptr), plays.shape[1])
        return cls(matrix, torch.from_numpy(weights), recipe.cg_steps, fixed)

    def solve(self, rows: torch.Tensor, columns: torch.Tensor) -> float:
        """Improves `rows` (all rows, dim) given `columns` (all columns, dim), in place; returns the loss reached.

        The returned loss leaves out the columns' own regularisation, which this half sweep does not change.
        """
        start, stop = parallel.shard(len(rows))
        own = rows[start:stop]
        gram = parallel.sum_over_workers(_gram_of_shard(columns))
        loss = torch.zeros(1, dtype=torch.float64)
        for block in self._blocks():
            loss += self._solve_block(own[block], columns, gram, block)
        parallel.share_rows(rows)
        return float(parallel.sum_over_workers(loss))

    def _blocks(self) -> Iterator[slice]:
        indptr, start = self.matrix.indptr, 0
        while start < len(indptr) - 1:
            stop = int(np.searchsorted(indptr, indptr[start] + BLOCK_ENTRIES, side="right")) - 1
            stop = min(max(stop, start + 1), len(indptr) - 1)
            yield slice(start, stop)
            start = stop

    def _solve_block(self, x: torch.Tensor, columns: torch.Tensor, gram: torch.Tensor, block: slice) -> float:
        """Conjugate gradients on `x` (rows of the block, dim), in place, all rows side by side."""
        system = _System(self.matrix[block], self.weights[block], columns, gram)
        target = system.target()
        residual = target - system.apply(x)
        downhill = self._free(residual)
        direction, size = downhill.clone(), _dot(downhill, downhill)
        for _ in range(self.cg_steps):
            image = system.apply(direction)
            step = size / _dot(direction, image).clamp_min(1e-20)
            x += step * direction
            residual -= step * image
            downhill = self._free(residual)
            previous, size = size, _dot(downhill, downhill)
            direction = downhill + size / previous.clamp_min(1e-20) * direction
        # x'Ax - 2 x'b + sum of c r^2, with Ax = b - residual
        return float((-(x * (target + residual)).sum(dtype=torch.float64)) + system.constant())

    def _free(self, residual: torch.Tensor) -> torch.Tensor:
        """The residual along the coordinates that are solved for."""
        if self.fixed is None:
            return residual
        free = residual.clone()
        free[:, self.fixed] = 0
        return free


class _System:
    """The normal equations of a block of rows: (gram + sum_i a_i y_i y_i' + w) x = sum_i (1 + a_i) y_i."""

    def __init__(self, extra: sp.csr_matrix, weights: torch.Tensor, columns: torch.Tensor, gram: torch.Tensor) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            self._extra = torch.sparse_csr_tensor(
                torch.from_numpy(extra.indptr.astype(np.int64)),
                torch.from_numpy(extra.indices.astype(np.int64)),
                torch.from_numpy(extra.data),
                extra.shape,
                check_invariants=False,
            )
        self._pattern = self._with_values(torch.zeros_like(self._extra.values()))
        self._weights, self._columns, self._gram = weights[:, None], columns, gram

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        at_entries = torch.sparse.sampled_addmm(self._pattern, x, self._columns.T).values()
        return x @ self._gram + self._weights * x + self._with_values(at_entries * self._extra.values()) @ self._columns

    def target(self) -> torch.Tensor:
        return self._with_values(1 + self._extra.values()) @ self._columns

    def constant(self) -> float:
        """sum of c r^2: what an all-zero row would lose."""
        return float((1 + self._extra.values()).sum(dtype=torch.float64))

    def _with_values(self, values: torch.Tensor) -> torch.Tensor:
        return torch.sparse_csr_tensor(
            self._extra.crow_indices(), self._extra.col_indices(), values, self._extra.shape, check_invariants=False
        )


def _dot(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(rows, 1) the inner product of each pair of rows."""
    return (left * right).sum(1, keepdim=True)


def _gram_of_shard(vectors: torch.Tensor) -> torch.Tensor:
    start, stop = parallel.shard(len(vectors))
    return vectors[start:stop].T @ vectors[start:stop]


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
        plays = self.recipe.recency(queries.offsets)
        for i in np.flatnonzero(queries.seed_counts()).tolist():
            own = slice(queries.offsets[i], queries.offsets[i + 1])
            seeds = self.track_vectors[queries.seeds[own]]
            vectors[i] = self.recipe.fold_in(self.gram, seeds, plays[own], len(self.track_vectors))
        return vectors

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        return self.index.search(self.query_vectors(queries), queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        save_vectors(folder, self.track_vectors)
        save_array(folder / "gram.npy", self.gram)
        bias = {"bias_coordinate": self.recipe.dim} if self.recipe.biases else {}
        return {"kind": "als", "dimension": self.recipe.width, "metric": "inner product", **bias, **self.index.save(folder)}
