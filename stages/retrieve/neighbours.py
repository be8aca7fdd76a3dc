"""Playlist neighbours: what the playlists that share the seeds, rare ones above all, hold besides.

Input: who holds what. Output: the tracks that the most similar playlists vote for. Similarity is the cosine of the
idf-weighted track sets, idf = ln((num_playlists + 1) / (count + 1)). Knows no title, no content and no vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field

from features.arrays import load_array, save_array
from features.domain import Floats, Queries, Retrieved
from stages.protocols import Report, Visible, silent
from stages.retrieve.votes import Voters, open_sparse, queries_matrix, save_sparse, unit_rows


class NeighboursRecipe(BaseModel):
    """How many neighbours vote, and how much nearer ones count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbours: int = Field(300, ge=1)
    sharpness: float = Field(1.5, gt=0)

    def fit(self, visible: Visible, report: Report = silent) -> Neighbours:
        holds = visible.interactions.matrix.copy()
        holds.data[:] = 1
        idf = np.log((holds.shape[0] + 1) / (visible.interactions.track_counts + 1)).astype(np.float32)
        weighted = unit_rows((holds @ sp.diags(idf)).tocsr())
        report("neighbours", 1.0, {})
        return Neighbours(self, holds, weighted.T.tocsr(), idf)

    def open(self, folder: Path, num_tracks: int) -> Neighbours:
        holds = open_sparse(folder, "holds", num_tracks)
        idf = load_array(folder / "idf.npy", dtype=np.float32, shape=(num_tracks,), mmap=True)
        return Neighbours(self, holds, open_sparse(folder, "postings", holds.shape[0]), idf)


@dataclass(frozen=True)
class Neighbours:
    """Trained: the playlists, and for every track the playlists that hold it."""

    recipe: NeighboursRecipe
    holds: sp.csr_matrix
    """(num_playlists, num_tracks)"""
    postings: sp.csr_matrix
    """(num_tracks, num_playlists) the idf weight of the track in the playlist, playlists scaled to length 1."""
    idf: Floats
    """(num_tracks,)"""

    @cached_property
    def _voters(self) -> Voters:
        return Voters(self.holds, self.recipe.neighbours, self.recipe.sharpness)

    @property
    def track_vectors(self) -> None:
        return None

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        weighted = queries_matrix(queries, len(self.idf))
        weighted.data *= self.idf[queries.seeds]
        return self._voters.elect((unit_rows(weighted) @ self.postings).tocsr(), queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        save_sparse(folder, "holds", self.holds)
        save_sparse(folder, "postings", self.postings)
        save_array(folder / "idf.npy", self.idf)
        return {"kind": "neighbours", "playlists": int(self.holds.shape[0]), "metric": "idf cosine"}
