"""How the factors of `als` are found: sweeps over both sides, each solved by a few steps of conjugate gradients.

Input: plays. Output: the vectors of its columns. Knows no index.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from features.domain import Floats
from stages import parallel
from stages.protocols import Report
from stages.retrieve.als import AlsRecipe

BLOCK_ENTRIES = 4_000_000
"""Entries solved at once; bounds the working memory of a half sweep."""


def factorize(recipe: AlsRecipe, plays: sp.csr_matrix, seed: int, report: Report) -> Floats:
    """(columns, width) the vectors of the columns of `plays` (rows, columns)."""
    rows, columns = _start(recipe, plays.shape, seed)
    of_rows = _Side.of(plays, recipe, recipe.fixed_of_playlists)
    of_columns = _Side.of(plays.T.tocsr(), recipe, recipe.fixed_of_tracks)
    for sweep in range(recipe.sweeps):
        of_rows.solve(rows, columns)
        loss = of_columns.solve(columns, rows)
        report("als", (sweep + 1) / recipe.sweeps, {"loss": loss})
    return np.asarray(columns.numpy())


def _start(recipe: AlsRecipe, shape: tuple[int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Small random factors, the same on every worker."""
    generator = torch.Generator().manual_seed(seed)
    scale = 0.1 / np.sqrt(recipe.dim)
    playlists, tracks = (torch.randn(rows, recipe.width, generator=generator) * scale for rows in shape)
    if recipe.biases:
        playlists[:, recipe.fixed_of_playlists], tracks[:, recipe.fixed_of_tracks] = 1, 1
    return playlists, tracks


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
