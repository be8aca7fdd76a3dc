"""ALS training: half sweeps over this worker's shards of the playlists and of the tracks.

Input: a recipe and this worker's rows of the matrix. Output: the vectors of all its columns. Each half sweep rotates both sides
onto the axes of the fixed side's Gram matrix, where the dense part of every row's system is diagonal; products x . y do not
change by it, and at the end the columns are rotated back. Gram matrices are summed over the workers. Each worker stores its own
shard alone; the fixed side is gathered shard by shard. On a CPU rows are solved by compiled loops (`kernels`), on another device
by the same steps in torch (`torch_solver`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
import torch

from features.domain import Floats
from features.interactions import Interactions
from features.npy import read_only
from features.progress import Progress
from features.ragged import offsets_of
from stages import parallel
from stages.protocols import require_finite
from stages.resume import FROM_SCRATCH, Checkpoint, TrainingContext
from stages.retrieve.als.kernels import solve_rows
from stages.retrieve.als.model import Als, AlsRecipe
from stages.retrieve.als.torch_solver import solve_blocks
from stages.retrieve.index.selection import with_chosen_index
from stages.training_data import TrainingData

Plays = Callable[[int, int], sp.csr_matrix]
"""The rows of a matrix from one to before another; each worker reads its own alone."""

PIECES = 16
"""Pieces of equal work for each thread, so that none waits long for the last."""
ROW_COST = 8
"""What a row costs beside its entries, in entries."""
ROWS_AT_ONCE = 1 << 16


def fit_als(recipe: AlsRecipe, data: TrainingData, report: Progress) -> Als:
    interactions, older = data.interactions, data.past.older
    shape = (interactions.num_playlists, interactions.num_tracks)
    start = older.of_tracks(older.source_of(Als).track_vectors) if older else None
    found = factorize(recipe, partial(_plays, recipe, interactions), shape, data.seed, report, data.past, start)
    vectors = require_finite("als track vectors", found)
    als = Als(recipe, vectors, recipe.index.build(vectors, data.tracks_in_playlists, data.seed), vectors.T @ vectors)
    return with_chosen_index(als, recipe.index, data)


def _plays(recipe: AlsRecipe, interactions: Interactions, first: int, last: int) -> sp.csr_matrix:
    """(last - first, num_tracks) how much each entry of some playlists counts."""
    part = interactions.part(first, last)
    plays = part.plays * recipe.recency(part.offsets)
    return sp.csr_matrix((plays, part.tracks, part.offsets), shape=(part.num_playlists, part.num_tracks))


def factorize(
    recipe: AlsRecipe,
    plays: Plays,
    shape: tuple[int, int],
    seed: int,
    report: Progress,
    past: TrainingContext = FROM_SCRATCH,
    start: Floats | None = None,
) -> Floats:
    """(columns, width) the vectors of all columns of the matrix of `shape` whose rows `plays` returns.

    `start` (columns, width): the vectors of an older model, where its columns begin; zeros for columns it does not know.
    """
    own = plays(*parallel.shard(shape[0]))
    by_row = Side.of(own, parallel.shard_bounds(shape[0]), recipe, recipe.fixed_of_playlists)
    bounds = _columns_by_cost(own)
    by_column = Side.of(_columns_of_shard(own, bounds), bounds, recipe, recipe.fixed_of_tracks)
    del own
    reached = past.steps.last()
    factors = _Factors.of(reached) if reached else _start(recipe, by_row, by_column, seed, start)
    planned = past.left(recipe.iterations)
    for sweep in range(reached.done if reached else planned.start, planned.stop):
        loss = factors.sweep(by_row, by_column, recipe)
        past.steps.keep(factors.reached(sweep + 1))
        report("als", (sweep + 1) / planned.stop, {"loss": loss})
    columns = parallel.gather_rows(factors.columns, by_column.bounds)
    return np.asarray((columns @ factors.turn.T).numpy())


def _start(recipe: AlsRecipe, by_row: Side, by_column: Side, seed: int, start: Floats | None) -> _Factors:
    """This worker's shards of small random factors, which do not depend on how many workers there are."""
    rows, columns = (_random(seed, place, side.own, recipe) for place, side in enumerate((by_row, by_column)))
    for factors, fixed in ((rows, by_row.fixed), (columns, by_column.fixed)):
        if fixed is not None:
            factors[:, fixed] = 1
    if start is not None:
        own = start[by_column.own]
        known = np.flatnonzero(own.any(axis=1))
        columns[known] = torch.from_numpy(own[known])
    return _Factors(rows, columns, torch.eye(recipe.width))


def _random(seed: int, place: int, rows: slice, recipe: AlsRecipe) -> torch.Tensor:
    """Those `rows` of a matrix of `width` columns, of which no other row is drawn."""
    bits = np.random.PCG64([seed, place])
    bits.advance(rows.start * recipe.width)  # a number takes one step
    drawn, scale = torch.empty(rows.stop - rows.start, recipe.width), 0.1 * np.sqrt(12 / recipe.factors)
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
    def of(cls, reached: Checkpoint) -> _Factors:
        rows, columns, turn = (torch.from_numpy(array) for array in (reached.own["rows"], reached.own["columns"], reached.shared["turn"]))
        return cls(rows, columns, turn)

    def reached(self, done: int) -> Checkpoint:
        return Checkpoint(done, {"rows": self.rows.numpy(), "columns": self.columns.numpy()}, {"turn": self.turn.numpy()})

    def sweep(self, by_row: Side, by_column: Side, recipe: AlsRecipe) -> float:
        """Both half sweeps; returns the loss."""
        self._half(by_row, self.rows, by_column, self.columns, recipe)
        return self._half(by_column, self.columns, by_row, self.rows, recipe)

    def _half(self, side: Side, own: torch.Tensor, other_side: Side, others: torch.Tensor, recipe: AlsRecipe) -> float:
        """Improves `own`, given `others`, in place; returns the whole loss."""
        axes, gram = principal_axes(parallel.all_reduce_sum(others.T @ others), recipe.factors)
        for vectors in (own, others, self.turn):
            _turn(vectors, axes)
        loss = side.solve(own, parallel.gather_rows(others, other_side.bounds), gram, recipe) + other_side.penalty(others)
        return float(parallel.all_reduce_sum(torch.tensor([loss], dtype=torch.float64)))


def principal_axes(gram: torch.Tensor, factors: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(width, width) the axes of the first `factors` coordinates of `gram`, the others left as they are, and `gram` seen from them;
    those of worker 0, for another machine may turn an axis the other way round."""
    require_finite("als track vectors", gram.numpy())
    axes = torch.eye(len(gram), dtype=torch.float64)
    axes[:factors, :factors] = torch.linalg.eigh(gram[:factors, :factors].double()).eigenvectors
    axes = parallel.broadcast(axes)
    return axes.float(), (axes.T @ gram.double() @ axes).float()


def _turn(vectors: torch.Tensor, axes: torch.Tensor) -> None:
    """In place, some rows at a time, so that no second copy of them all is made."""
    for some in torch.split(vectors, ROWS_AT_ONCE):
        some.copy_(some @ axes)


def _columns_by_cost(plays: sp.csr_matrix) -> np.ndarray:
    """(workers + 1,) bounds of the columns' shards: of equal work, for most entries are of the few columns that come first."""
    counts = parallel.all_reduce_sum(torch.from_numpy(np.bincount(plays.indices, minlength=plays.shape[1])))
    return _cuts(offsets_of(counts.numpy()), parallel.num_workers())


def _cuts(before: np.ndarray, count: int) -> np.ndarray:
    """(count + 1,) bounds of `count` runs of rows that cost about the same, where `before` (rows + 1,) counts the entries before
    each row and, in the end, all of them."""
    cost = before + ROW_COST * np.arange(len(before))
    return np.searchsorted(cost, np.linspace(0, cost[-1], count + 1))


def _columns_of_shard(plays: sp.csr_matrix, bounds: np.ndarray) -> sp.csr_matrix:
    """(columns of this worker's share of `bounds`, all rows) from the rows that each worker holds."""
    mine = plays.T.tocsr()
    if parallel.num_workers() == 1:
        return mine
    parts = [mine[start:stop] for start, stop in pairwise(bounds)]
    counts, indices, data = (
        parallel.all_to_all([torch.from_numpy(np.ascontiguousarray(array)) for array in arrays])
        for arrays in (
            [np.diff(part.indptr).astype(np.int64) for part in parts],
            [part.indices.astype(np.int32) for part in parts],
            [part.data for part in parts],
        )
    )
    lengths = parallel.all_gather(torch.tensor([plays.shape[0]])).tolist()
    received = [
        sp.csr_matrix((values.numpy(), places.numpy(), offsets_of(count.numpy())), shape=(len(count), length))
        for count, places, values, length in zip(counts, indices, data, lengths, strict=True)
    ]
    return sp.hstack(received, format="csr")


@dataclass
class Side:
    """One half of the matrix as seen from its rows: this worker's shard of them."""

    indptr: np.ndarray
    """(rows of the shard + 1,)"""
    indices: np.ndarray
    extra: Floats
    """(nnz,) the extra confidence alpha * plays of each entry."""
    weights: Floats
    """(rows of the shard,) the regularisation of each row."""
    bounds: np.ndarray
    """(workers + 1,) where the workers' shards begin, and the last one ends."""
    fixed: int | None
    """The coordinate of the rows that is not solved for."""

    @classmethod
    def of(cls, plays: sp.csr_matrix, bounds: np.ndarray, recipe: AlsRecipe, fixed: int | None = None) -> Side:
        """`plays` (rows of the shard, columns)."""
        indptr = plays.indptr.astype(np.int64)
        weights = recipe.row_weights(np.diff(indptr), plays.shape[1])
        extra = plays.data * np.float32(recipe.alpha)
        return cls(indptr, read_only(plays.indices.astype(np.int32, copy=False)), extra, weights, bounds, fixed)

    @property
    def own(self) -> slice:
        """This worker's rows."""
        return slice(*parallel.share_of(self.bounds))

    def solve(self, rows: torch.Tensor, columns: torch.Tensor, gram: torch.Tensor, recipe: AlsRecipe) -> float:
        """Improves `rows` (rows of the shard, width) given all `columns` and their `gram`, diagonal but for the coordinates
        after `recipe.factors`, in place; returns their loss with their own regularisation."""
        diagonal = gram.diagonal().clone()
        border = (gram - torch.diag(diagonal))[recipe.factors :].contiguous()
        free = torch.ones(len(gram))
        if self.fixed is not None:
            free[self.fixed] = 0
        device = parallel.device()
        if device.type != "cpu":
            return solve_blocks(self.indptr, self.indices, self.extra, self.weights, columns, gram, free, recipe.cg_steps, rows, device)
        entries = (self.indptr, self.indices, self.extra, self.weights)
        system = (columns.numpy(), diagonal.numpy(), border.numpy(), free.numpy())
        solve = partial(solve_rows, *entries, *system, recipe.cg_steps, rows.numpy())
        bounds = np.unique(_cuts(self.indptr, PIECES * torch.get_num_threads())).tolist()
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return sum(pool.map(solve, bounds, bounds[1:]))

    def penalty(self, rows: torch.Tensor) -> float:
        """The regularisation of `rows` (rows of the shard, width)."""
        sizes = np.einsum("ij,ij->i", rows.numpy(), rows.numpy())
        return float(self.weights @ sizes.astype(np.float64))
