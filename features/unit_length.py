"""Vectors scaled to length 1, so that inner products are cosines.

Input: one vector, or one a row. Output: the same directions at length 1. Knows not what the coordinates mean.
"""

from __future__ import annotations

import numpy as np

from features.domain import Floats

SHORTEST = 1e-9
"""A shorter vector has no direction: it is divided by this instead of its length, and stays nearly 0."""


def unit(vector: Floats) -> Floats:
    """`vector` (dim,) at length 1."""
    direction: Floats = vector / max(float(np.linalg.norm(vector)), SHORTEST)
    return direction


def unit_rows(vectors: Floats) -> Floats:
    """`vectors` (n, dim), each at length 1."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), SHORTEST), np.float32)
