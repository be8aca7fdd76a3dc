"""How the factors of `als` are found: half sweeps over this worker's shards of the playlists and of the tracks.

Input: a recipe and this worker's rows of the matrix. Output: the vectors of all its columns. Each half sweep turns both sides
onto the axes of the fixed side's Gram matrix, where the dense part of every row's system is diagonal; products x . y do not
change by it, and at the end the columns are turned back. Gram matrices are summed over the workers, and the fixed side, of
which each worker otherwise holds its own shard alone, is gathered shard by shard. On a CPU rows are solved by compiled loops
(`als_loops`), on another device by the same steps in torch (`als_device`). Knows no index.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
import torch

from features.arrays import read_only
from features.domain import Floats
from stages import parallel
from stages.past import FRESH, Past, Reached
from stages.protocols import Report, require_finite
from stages.retrieve.als import AlsRecipe, Plays
from stages.retrieve.als_device import solve_blocks
from stages.retrieve.als_loops import solve_rows

PIECES = 16
"""Pieces of equal work for each thread, so that none waits long for the last."""
ROW_COST = 8
"""What a row costs beside its entries, in entries."""
ROWS_AT_ONCE = 1 << 16


def factorize(
    recipe: AlsRecipe,
    plays: Plays,
    shape: tuple[int, int],
    seed: int,
    report: Report,
    past: Past = FRESH,
    start: Floats | None = None,
) -> Floats:
    """(columns, width) the vectors of all columns of the matrix of `shape` whose rows `plays` knows.

    `start` (columns, width): where known columns begin, zeros for the unknown.
    """
    own = plays(*parallel.shard(shape[0]))
    by_row = _Side.of(own, shape[0], recipe, recipe.fixed_of_playlists)
    by_column = _Side.of(_columns_of_shard(own), shape[1], recipe, recipe.fixed_of_tracks)
    del own
    reached = past.steps.last()
    factors = _Factors.of(reached) if reached else _start(recipe, shape, seed, start)
    planned = past.left(recipe.sweeps)
    for sweep in range(reached.done if reached else planned.start, planned.stop):
        loss = factors.sweep(by_row, by_column, recipe)
        past.steps.keep(factors.reached(sweep + 1))
        report("als", (sweep + 1) / planned.stop, {"loss": loss})
    columns = parallel.gathered_rows(factors.columns, shape[1])
    return np.asarray((columns @ factors.turn.T).numpy())


def _start(recipe: AlsRecipe, shape: tuple[int, int], seed: int, start: Floats | None) -> _Factors:
    """This worker's shards of small random factors, which do not depend on how many workers there are."""
    rows, columns = (_random(seed, side, *parallel.shard(total), recipe) for side, total in enumerate(shape))
    for factors, fixed in ((rows, recipe.fixed_of_playlists), (columns, recipe.fixed_of_tracks)):
        if fixed is not None:
            factors[:, fixed] = 1
    if start is not None:
        own = start[slice(*parallel.shard(shape[1]))]
        known = np.flatnonzero(own.any(axis=1))
        columns[known] = torch.from_numpy(own[known])
    return _Factors(rows, columns, torch.eye(recipe.width))


def _random(seed: int, side: int, first: int, last: int, recipe: AlsRecipe) -> torch.Tensor:
    """Rows `first` to before `last` of a matrix of `width` columns, of which no other row is drawn."""
    bits = np.random.PCG64([seed, side])
    bits.advance(first * recipe.width)  # a number takes one step
    drawn, scale = torch.empty(last - first, recipe.width), 0.1 * np.sqrt(12 / recipe.dim)
    for some in torch.split(drawn, ROWS_AT_ONCE):
        some.copy_(torch.from_numpy(np.random.Generator(bits).random(some.shape) - 0.5) * scale)
    return drawn


@dataclass
class _Factors:
    """This worker's shards of both sides' vectors, on axes that `turn` (width, width) turned to."""

    rows: torch.Tensor
    columns: torch.Tensor
    turn: torch.Tensor

    @classmethod
    def of(cls, reached: Reached) -> _Factors:
        rows, columns, turn = (torch.from_numpy(array) for array in (reached.own["rows"], reached.own["columns"], reached.shared["turn"]))
        return cls(rows, columns, turn)

    def reached(self, done: int) -> Reached:
        return Reached(done, {"rows": self.rows.numpy(), "columns": self.columns.numpy()}, {"turn": self.turn.numpy()})

    def sweep(self, by_row: _Side, by_column: _Side, recipe: AlsRecipe) -> float:
        """Both half sweeps; returns the loss."""
        self._half(by_row, self.rows, by_column, self.columns, recipe)
        return self._half(by_column, self.columns, by_row, self.rows, recipe)

    def _half(self, side: _Side, own: torch.Tensor, other_side: _Side, others: torch.Tensor, recipe: AlsRecipe) -> float:
        """Improves `own`, given `others`, in place; returns the whole loss."""
        axes, gram = _axes(parallel.sum_over_workers(others.T @ others), recipe.dim)
        for vectors in (own, others, self.turn):
            _turn(vectors, axes)
        loss = side.solve(own, parallel.gathered_rows(others, other_side.total), gram, recipe) + other_side.penalty(others)
        return float(parallel.sum_over_workers(torch.tensor([loss], dtype=torch.float64)))


def _axes(gram: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(width, width) the axes of the first `dim` coordinates of `gram`, the others left as they are, and `gram` seen from them;
    those of worker 0, for another machine may turn an axis the other way round."""
    require_finite("als track vectors", gram.numpy())
    axes = torch.eye(len(gram), dtype=torch.float64)
    axes[:dim, :dim] = torch.linalg.eigh(gram[:dim, :dim].double()).eigenvectors
    axes = parallel.told_by_the_first(axes)
    return axes.float(), (axes.T @ gram.double() @ axes).float()


def _turn(vectors: torch.Tensor, axes: torch.Tensor) -> None:
    """In place, some rows at a time, so that no second copy of them all is made."""
    for some in torch.split(vectors, ROWS_AT_ONCE):
        some.copy_(some @ axes)


def _columns_of_shard(plays: sp.csr_matrix) -> sp.csr_matrix:
    """(columns of this worker's shard, all rows) from the rows that each worker holds."""
    mine = plays.T.tocsr()
    if parallel.num_workers() == 1:
        return mine
    bounds = parallel.shard_bounds(plays.shape[1])
    parts = [mine[start:stop] for start, stop in pairwise(bounds)]
    counts, indices, data = (
        parallel.exchanged([torch.from_numpy(np.ascontiguousarray(array)) for array in arrays])
        for arrays in (
            [np.diff(part.indptr).astype(np.int64) for part in parts],
            [part.indices.astype(np.int32) for part in parts],
            [part.data for part in parts],
        )
    )
    lengths = parallel.joined_over_workers(torch.tensor([plays.shape[0]])).tolist()
    received = [
        sp.csr_matrix((values.numpy(), places.numpy(), np.concatenate([[0], np.cumsum(count.numpy())])), shape=(len(count), length))
        for count, places, values, length in zip(counts, indices, data, lengths, strict=True)
    ]
    return sp.hstack(received, format="csr")


@dataclass
class _Side:
    """One half of the matrix as seen from its rows: this worker's shard of them."""

    indptr: np.ndarray
    """(rows of the shard + 1,)"""
    indices: np.ndarray
    extra: Floats
    """(nnz,) the extra confidence a * plays of each entry."""
    weights: Floats
    """(rows of the shard,) the regularisation of each row."""
    total: int
    """Rows of all shards."""
    fixed: int | None
    """The coordinate of the rows that is not solved for."""

    @classmethod
    def of(cls, plays: sp.csr_matrix, total: int, recipe: AlsRecipe, fixed: int | None = None) -> _Side:
        """`plays` (rows of the shard, columns) of `total` rows."""
        indptr = plays.indptr.astype(np.int64)
        weights = recipe.row_weights(np.diff(indptr), plays.shape[1])
        extra = plays.data * np.float32(recipe.confidence)
        return cls(indptr, read_only(plays.indices.astype(np.int32, copy=False)), extra, weights, total, fixed)

    def solve(self, rows: torch.Tensor, columns: torch.Tensor, gram: torch.Tensor, recipe: AlsRecipe) -> float:
        """Improves `rows` (rows of the shard, width) given all `columns` and their `gram`, diagonal but for the coordinates
        after `recipe.dim`, in place; returns their loss with their own regularisation."""
        diagonal = gram.diagonal().clone()
        border = (gram - torch.diag(diagonal))[recipe.dim :].contiguous()
        free = torch.ones(len(gram))
        if self.fixed is not None:
            free[self.fixed] = 0
        device = parallel.device()
        if device.type != "cpu":
            return solve_blocks(self.indptr, self.indices, self.extra, self.weights, columns, gram, free, recipe.cg_steps, rows, device)
        entries = (self.indptr, self.indices, self.extra, self.weights)
        system = (columns.numpy(), diagonal.numpy(), border.numpy(), free.numpy())
        solve = partial(solve_rows, *entries, *system, recipe.cg_steps, rows.numpy())
        bounds = self._pieces(PIECES * torch.get_num_threads())
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return sum(pool.map(solve, bounds, bounds[1:]))

    def _pieces(self, count: int) -> list[int]:
        """Bounds of at most `count` runs of rows that cost about the same."""
        cost = self.indptr + ROW_COST * np.arange(len(self.indptr))
        bounds: list[int] = np.unique(np.searchsorted(cost, np.linspace(0, cost[-1], count + 1))).tolist()
        return bounds

    def penalty(self, rows: torch.Tensor) -> float:
        """The regularisation of `rows` (rows of the shard, width)."""
        sizes = np.einsum("ij,ij->i", rows.numpy(), rows.numpy())
        return float(self.weights @ sizes.astype(np.float64))
