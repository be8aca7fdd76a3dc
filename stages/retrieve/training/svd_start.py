"""SVD initialisation: tracks that occur together start with similar vectors.

Input: playlist-track interactions. Output: a row for every track, from the leading directions of the playlists x tracks matrix. A model
that starts there has less to learn, which counts most where playlists are few. Knows no model.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from features.domain import Floats
from features.interactions import Interactions
from stages import parallel

POWER_STEPS = 4
"""Multiplications by the matrix that turn random directions into nearly the leading ones."""
NOISE = 0.01
"""Share of noise in the starting rows, so that no two tracks are exactly alike."""
DAMPING = 0.25
"""Exponent by which popular tracks count for less in the directions, and have shorter rows."""


def starting_rows(interactions: Interactions, dim: int, scale: float, seed: int) -> torch.Tensor:
    """(num_tracks, dim) the leading directions of the playlists x tracks matrix, of mean square `scale` squared, so that
    training begins with tracks that occur together near each other; zeros for tracks that nobody holds. The same on every worker.
    """
    rows = torch.zeros(interactions.num_tracks, dim)
    if parallel.worker_rank() == 0:  # two machines may round, and so turn, the directions differently
        damping = (interactions.track_counts[:, None] + 1).astype(np.float32) ** DAMPING
        random = np.random.default_rng(seed)
        found = leading_directions(_damped(interactions, damping[:, 0]), dim, random) / damping
        noise = random.standard_normal(found.shape, dtype=np.float32) * np.float32(NOISE)
        size = np.float32(np.sqrt(np.mean(found**2))) if found.any() else np.float32(1)
        rows = torch.from_numpy((found / size + noise) * np.float32(scale) * (interactions.track_counts > 0)[:, None])
    return parallel.broadcast(rows)


def _damped(interactions: Interactions, damping: Floats) -> sp.csr_matrix:
    """(num_playlists, num_tracks) 1 where held, divided so that neither long playlists nor popular tracks set the directions."""
    lengths = np.maximum(interactions.lengths(), 1).astype(np.float32)
    values = (np.repeat(lengths, interactions.lengths()) ** -0.5 / damping[interactions.tracks]).astype(np.float32)
    return sp.csr_matrix((values, interactions.tracks, interactions.offsets), shape=interactions.matrix.shape)


def leading_directions(matrix: sp.csr_matrix, dim: int, random: np.random.Generator) -> Floats:
    """(num_columns, dim) an orthonormal basis; zeros where there are fewer columns than `dim`.

    A randomised subspace iteration (Halko, Martinsson and Tropp 2011): some products with the sparse matrix, and a QR
    decomposition of the rows.
    """
    directions = random.standard_normal((matrix.shape[1], min(dim, matrix.shape[1])), dtype=np.float32)
    for _ in range(POWER_STEPS):
        directions = np.linalg.qr(matrix.T @ (matrix @ directions))[0]
    return np.pad(directions, ((0, 0), (0, dim - directions.shape[1])))
