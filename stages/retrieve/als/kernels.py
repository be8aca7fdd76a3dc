"""The loops of a half sweep of `als`: preconditioned conjugate gradients on one row after the other.

Every row solves (D + B + w + sum_e a_e y_e y_e') x = sum_e (1 + a_e) y_e over its entries e. D + B is the Gram matrix of all
columns: on its own axes it is diagonal, D, but for the few coordinates that are not turned, the border B. So a step costs two
passes over the row's own entries, which stay in the cache, and D + w, free of charge, is a good preconditioner.
Input: plain arrays. Output: better rows, in place, and the loss. Knows neither playlists nor workers.
"""

from __future__ import annotations

import numpy as np

from features.domain import Floats, Ints, Offsets
from features.jit import compiled

TINY = 1e-20


@compiled
def solve_rows(
    indptr: Offsets,
    indices: Ints,
    extra: Floats,
    weights: Floats,
    columns: Floats,
    diagonal: Floats,
    border: Floats,
    free: Floats,
    steps: int,
    rows: Floats,
    first: int,
    last: int,
) -> float:
    """Improves `rows` (r, width) from `first` to `last` by at most `steps` steps; returns their loss, own regularisation included.

    `indptr` (r + 1,), `indices` (nnz,), `extra` (nnz,): the entries and how much more than an absence each weighs. `weights`
    (r,): w. `columns` (c, width), `diagonal` (width,); `border` (b, width): the last b rows of B, zero on the diagonal.
    `free` (width,): 1 for the coordinates that are solved for, 0 for those that stay.
    """
    width = len(diagonal)
    turned = width - len(border)
    residual, direction = np.empty(width, np.float32), np.empty(width, np.float32)
    image, scale = np.empty(width, np.float32), np.empty(width, np.float32)
    loss = np.float64(0)
    for row in range(first, last):
        x, start, stop = rows[row], indptr[row], indptr[row + 1]
        for j in range(width):
            scale[j] = diagonal[j] + weights[row]
            residual[j] = -scale[j] * x[j]
        for k in range(len(border)):
            residual[turned + k] -= _inner(border[k], x)
            for j in range(turned):
                residual[j] -= border[k, j] * x[turned + k]
        constant, explained = np.float32(0), np.float32(0)
        for e in range(start, stop):
            y, confidence = columns[indices[e]], 1 + extra[e]
            along = _inner(y, x)
            constant += confidence
            explained += confidence * along
            more = confidence - extra[e] * along
            for j in range(width):
                residual[j] += more * y[j]
        size = np.float32(0)
        for j in range(width):
            scale[j] = free[j] / scale[j]
            direction[j] = scale[j] * residual[j]
            size += residual[j] * direction[j]
        for _ in range(steps):
            gained = np.float32(0)
            for j in range(width):
                image[j] = (diagonal[j] + weights[row]) * direction[j]
            for k in range(len(border)):
                image[turned + k] += _inner(border[k], direction)
                for j in range(turned):
                    image[j] += border[k, j] * direction[turned + k]
            for e in range(start, stop):
                y = columns[indices[e]]
                along = _inner(y, direction)
                gained += (1 + extra[e]) * along
                along *= extra[e]
                for j in range(width):
                    image[j] += along * y[j]
            curvature = _inner(direction, image)
            if curvature <= TINY:
                break
            length = size / curvature
            explained += length * gained
            before, size = size, np.float32(0)
            for j in range(width):
                x[j] += length * direction[j]
                residual[j] -= length * image[j]
                size += scale[j] * residual[j] * residual[j]
            for j in range(width):
                direction[j] = scale[j] * residual[j] + size / before * direction[j]
        # x'Ax - 2 x'b + sum of c r^2, with Ax = b - residual
        loss += constant - explained - _inner(x, residual)
    return float(loss)


@compiled
def _inner(left: Floats, right: Floats) -> np.float32:
    total = np.float32(0)
    for j in range(len(left)):
        total += left[j] * right[j]
    return total
