"""What a seed says of other tracks, summed over the seeds: what every item-item model ends in.

Input: a sparse matrix of weights, from whichever model (`graph.py`, `slim.py`). Output: the tracks of the largest sums.
Knows no model, no playlist and no vectors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from features.domain import Floats, Ints, Queries, Retrieved
from stages.protocols import NoSpace
from stages.retrieve.playlists.voting import open_sparse, save_sparse
from stages.retrieve.sparse_sums import each_seed_once, top_of_sums

Entries = tuple[Ints, Ints, Floats]
"""(n,) seeds, (n,) the tracks they speak for, (n,) weights; no pair twice."""


@dataclass(frozen=True)
class Items(NoSpace):
    """Trained: every track's weights for others."""

    model: str
    """Which recipe made the weights."""
    weights: sp.csr_matrix
    """(num_tracks, num_tracks) from a seed's row to the tracks it speaks for, positive where there is anything."""

    @classmethod
    def of(cls, model: str, parts: Iterable[Entries], num_tracks: int) -> Items:
        """The `parts` of all workers, of which each has its own."""
        import torch  # a server has no use for it

        from stages import parallel

        nothing = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
        own = [torch.from_numpy(np.concatenate(columns)) for columns in zip(nothing, *parts, strict=True)]
        seeds, tracks, weights = (parallel.all_gather(column).numpy() for column in own)
        return cls(model, sp.csr_matrix((weights, (seeds, tracks)), shape=(num_tracks, num_tracks)))

    @classmethod
    def open(cls, model: str, folder: Path, num_tracks: int) -> Items:
        return cls(model, open_sparse(folder, "weights", num_tracks))

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        return top_of_sums(self.weights, each_seed_once(queries), queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        save_sparse(folder, "weights", self.weights)
        return {"kind": "items", "model": self.model, "weights": int(self.weights.nnz), "metric": "summed weights"}
