"""The rows of a half sweep of `als` on a device such as a GPU: the steps of `kernels`, all rows of a block side by side.

Input: this worker's shard, all columns. Output: better rows, in place, and the loss. A block bounds what the device has to
hold beside the columns. Knows neither playlists nor workers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch

from features.domain import Floats
from stages.retrieve.als.kernels import TINY

BLOCK_ENTRIES = 4_000_000
"""Entries solved at once."""


def solve_blocks(
    indptr: np.ndarray,
    indices: np.ndarray,
    extra: Floats,
    weights: Floats,
    columns: torch.Tensor,
    gram: torch.Tensor,
    free: torch.Tensor,
    steps: int,
    rows: torch.Tensor,
    device: torch.device,
) -> float:
    """Improves `rows` (r, width) by at most `steps` steps on `device`; returns their loss, own regularisation included. The
    arrays are those of `kernels.solve_rows`; `gram` (width, width) is that of all `columns`, diagonal or not."""
    columns, gram, free = columns.to(device), gram.to(device), free.to(device)
    loss = 0.0
    for start, stop in _blocks(indptr):
        entries = slice(indptr[start], indptr[stop])
        block = _Block(
            torch.from_numpy(indptr[start : stop + 1] - indptr[start]).to(device),
            torch.tensor(indices[entries], dtype=torch.int64, device=device),
            torch.from_numpy(extra[entries]).to(device),
            torch.from_numpy(weights[start:stop]).to(device),
            columns,
            gram,
        )
        x = rows[start:stop].to(device)
        loss += block.solve(x, free, steps)
        rows[start:stop] = x.cpu()
    return loss


def _blocks(indptr: np.ndarray) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(indptr) - 1:
        stop = int(np.searchsorted(indptr, indptr[start] + BLOCK_ENTRIES, side="right")) - 1
        stop = min(max(stop, start + 1), len(indptr) - 1)
        yield start, stop
        start = stop


class _Block:
    """The normal equations of a block of rows: (gram + sum_e a_e y_e y_e' + w) x = sum_e (1 + a_e) y_e."""

    def __init__(
        self,
        indptr: torch.Tensor,
        indices: torch.Tensor,
        extra: torch.Tensor,
        weights: torch.Tensor,
        columns: torch.Tensor,
        gram: torch.Tensor,
    ) -> None:
        self._indptr, self._indices, self._extra = indptr, indices, extra
        self._weights, self._columns, self._gram = weights[:, None], columns, gram
        self._pattern = self._with_values(torch.zeros_like(extra))

    def solve(self, x: torch.Tensor, free: torch.Tensor, steps: int) -> float:
        """Improves `x` (rows of the block, width) in place; returns its loss."""
        scale = free / (self._gram.diagonal() + self._weights)
        target = self._with_values(1 + self._extra) @ self._columns
        residual = target - self._apply(x)
        direction = scale * residual
        size = _dot(residual, direction)
        for _ in range(steps):
            image = self._apply(direction)
            length = size / _dot(direction, image).clamp_min(TINY)
            x += length * direction
            residual -= length * image
            downhill = scale * residual
            before, size = size, _dot(residual, downhill)
            direction = downhill + size / before.clamp_min(TINY) * direction
        # x'Ax - 2 x'b + sum of c r^2, with Ax = b - residual
        constant = (1 + self._extra).sum(dtype=torch.float64)
        return float(constant - (x * (target + residual)).sum(dtype=torch.float64))

    def _apply(self, x: torch.Tensor) -> torch.Tensor:
        along = torch.sparse.sampled_addmm(self._pattern, x, self._columns.T).values()
        return x @ self._gram + self._weights * x + self._with_values(along * self._extra) @ self._columns

    def _with_values(self, values: torch.Tensor) -> torch.Tensor:
        """(rows of the block, columns) the block's entries with other values."""
        shape = (len(self._weights), len(self._columns))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(self._indptr, self._indices, values, shape, check_invariants=False)


def _dot(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(rows, 1) the inner product of each pair of rows."""
    return (left * right).sum(1, keepdim=True)
