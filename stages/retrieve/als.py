"""Alternating least squares for implicit feedback, with exact fold-in of queries it has never seen.

Input: who holds what. Output: track vectors, and for any seed set the playlist vector that explains it best.

The loss is that of Hu, Koren and Volinsky (2008), with the frequency-scaled regularisation of Rendle, Krichene, Zhang
and Koren, "Revisiting the Performance of iALS on Item Recommendation Benchmarks" (2021):

    sum over all (u, i) of c_ui (r_ui - x_u . y_i)^2  +  sum_u w_u |x_u|^2  +  sum_i w_i |y_i|^2
    r_ui = 1 where playlist u holds track i, else 0;  c_ui = 1 + a * plays_ui where it does, else 1
    w_u = a * lambda * (n_u + num_tracks / a)^nu, w_i likewise with n_i and num_playlists

`a` sets the weight of what is not observed (1 / (1 + a) of what is). Each half sweep solves one side by a few steps of
conjugate gradients from where it stands (Takacs, Pilaszy and Tikk 2011), all rows of a block at once. With several
workers each solves its shard of the playlists and of the tracks; Gram matrices are summed, solved rows are shared.
Knows no title, no content and no Ray.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import BaseModel, ConfigDict, Field

from features.arrays import load_array, save_array
from features.domain import Floats, Queries, Retrieved
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

    dim: int = Field(128, ge=1, le=4096)
    confidence: float = Field(100.0, gt=0)
    """a of the loss: how much more one play weighs than its absence."""
    regularization: float = Field(0.01, ge=0)
    """lambda of the loss."""
    frequency_exponent: float = Field(1.0, ge=0, le=1)
    """nu of the loss: 0 treats all alike, 1 scales with what a playlist or track has."""
    sweeps: int = Field(12, ge=1)
    cg_steps: int = Field(3, ge=1)
    index: IndexRecipe = IndexRecipe()

    def fit(self, visible: Visible, report: Report = silent) -> Als:
        matrix = visible.interactions.matrix
        playlists, tracks = self._start(matrix.shape, visible.seed)
        of_playlists = _Side.of(matrix, self)
        of_tracks = _Side.of(matrix.T.tocsr(), self)
        for sweep in range(self.sweeps):
            of_playlists.solve(playlists, tracks)
            loss = of_tracks.solve(tracks, playlists)
            report("als", (sweep + 1) / self.sweeps, {"loss": loss})
        vectors = require_finite("als track vectors", tracks.numpy())
        held = np.flatnonzero(visible.interactions.track_counts).astype(np.int32)
        als = Als(self, vectors, vectors.T @ vectors, self.index.build(vectors, held, visible.seed))
        return with_chosen_index(als, visible)

    def open(self, folder: Path, num_tracks: int) -> Als:
        vectors = open_vectors(folder, (num_tracks, self.dim))
        gram = load_array(folder / "gram.npy", dtype=np.float32, shape=(self.dim, self.dim))
        return Als(self, vectors, gram, self.index.open(folder, self.dim))

    def _start(self, shape: tuple[int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Small random factors, the same on every worker."""
        generator = torch.Generator().manual_seed(seed)
        scale = 0.1 / np.sqrt(self.dim)
        playlists, tracks = (torch.randn(rows, self.dim, generator=generator) * scale for rows in shape)
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

    @classmethod
    def of(cls, plays: sp.csr_matrix, recipe: AlsRecipe) -> _Side:
        start, stop = parallel.shard(plays.shape[0])
        matrix = plays[start:stop] * np.float32(recipe.confidence)
        weights = recipe.row_weights(np.diff(matrix.indptr), plays.shape[1])
        return cls(matrix, torch.from_numpy(weights), recipe.cg_steps)

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
        direction, size = residual.clone(), _dot(residual, residual)
        for _ in range(self.cg_steps):
            image = system.apply(direction)
            step = size / _dot(direction, image).clamp_min(1e-20)
            x += step * direction
            residual -= step * image
            previous, size = size, _dot(residual, residual)
            direction = residual + size / previous.clamp_min(1e-20) * direction
        # x'Ax - 2 x'b + sum of c r^2, with Ax = b - residual
        return float((-(x * (target + residual)).sum(dtype=torch.float64)) + system.constant())


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
    """(num_tracks, dim)"""
    gram: Floats
    """(dim, dim) sum over all tracks of y y'."""
    index: Index

    def query_vectors(self, queries: Queries) -> Floats:
        """(q, dim) the least-squares playlist vector of each query's seeds, in closed form; zeros without seeds."""
        vectors = np.zeros((len(queries), self.recipe.dim), np.float32)
        weights = self.recipe.row_weights(queries.seed_counts(), len(self.track_vectors))
        for i in np.flatnonzero(queries.seed_counts()).tolist():
            seeds = self.track_vectors[queries.seeds_of(i)]
            system = self.gram + self.recipe.confidence * (seeds.T @ seeds)
            system[np.diag_indices_from(system)] += weights[i]
            vectors[i] = np.linalg.solve(system, (1 + self.recipe.confidence) * seeds.sum(0))
        return vectors

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        return self.index.search(self.query_vectors(queries), queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        save_vectors(folder, self.track_vectors)
        save_array(folder / "gram.npy", self.gram)
        return {"kind": "als", "dimension": self.recipe.dim, "metric": "inner product", **self.index.save(folder)}
