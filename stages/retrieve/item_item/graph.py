"""Item-item filtering: what shares playlists with the seeds, normalised by how common both are.

Input: who holds what. Output: for every track its nearest others in the bipartite graph of playlists and tracks; a query
is answered by the sum of its seeds' rows. The weight of j for the seed i is that of two steps through the graph,

    s_ij = sum over the playlists u that hold both of  n_u^-p  x  n_i^-a  x  n_j^-b

with n_u tracks in u and n_i, n_j playlists of i and j: p = 1, a = b = 0.5 is the linear filter of GF-CF (Shen et al., "How
Powerful is Graph Convolution for Recommendation?", 2021); p = a = 1 and a smaller b the RP3-beta of Paudel et al., "Updatable,
Accurate, Diverse, and Scalable Recommendations for Interactive Applications" (2016). With several workers each computes the
rows of its share of the tracks. Knows no title, no content and no vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field

from features.interactions import Interactions, evenly_thinned
from stages.protocols import Report, TrainingData, silent
from stages.retrieve.item_item.model import Items
from stages.retrieve.playlists.voting import keep_largest

BLOCK_STEPS = 20_000_000
"""Steps through the graph taken at once; bounds the working memory."""


class GraphRecipe(BaseModel):
    """How steps are weighted, and how many neighbours each track keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["graph"] = "graph"
    neighbours: int = Field(300, ge=1)
    playlist_exponent: float = Field(1.0, ge=0)
    """p: how much less a playlist says the longer it is."""
    seed_exponent: float = Field(0.6, ge=0)
    """a: how much less a seed says the more playlists hold it."""
    candidate_exponent: float = Field(0.4, ge=0)
    """b: how much more it takes for a track the more playlists hold it."""
    most_playlists: int = Field(2_000, ge=1)
    """Of a more popular seed an even sample of its playlists is walked through."""

    def fit(self, visible: TrainingData, report: Report = silent) -> Items:
        from stages import parallel  # it needs torch, which a server has no use for

        held = visible.interactions
        start, stop = parallel.shard(visible.num_tracks)
        seeds, tracks = self._steps(held)
        own, parts = seeds[start:stop], []
        for block in _blocks(own, held.lengths()):
            first = start + block.start
            nearest = keep_largest(_without_diagonal(own[block] @ tracks, first), self.neighbours)
            of_row = first + np.repeat(np.arange(nearest.shape[0], dtype=np.int32), np.diff(nearest.indptr))
            parts.append((of_row, nearest.indices, nearest.data))
            report("graph", block.stop / max(stop - start, 1), {})
        return Items.of(self.kind, parts, visible.num_tracks)

    def _steps(self, held: Interactions) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """(tracks, playlists) from a seed to its playlists, and (playlists, tracks) from there to candidates."""
        lengths, counts = (np.maximum(sizes, 1).astype(np.float32) for sizes in (held.lengths(), held.track_counts))
        seeds = evenly_thinned(held.holds.T.tocsr(), self.most_playlists)
        thinned = counts / np.maximum(np.diff(seeds.indptr), 1)  # what a walked playlist stands for
        seeds = sp.diags(thinned * counts**-self.seed_exponent) @ seeds @ sp.diags(lengths**-self.playlist_exponent)
        return seeds.tocsr().astype(np.float32), (held.holds @ sp.diags(counts**-self.candidate_exponent)).tocsr().astype(np.float32)

    def open(self, folder: Path, num_tracks: int) -> Items:
        return Items.open(self.kind, folder, num_tracks)


def _blocks(seeds: sp.csr_matrix, lengths: np.ndarray) -> Iterator[slice]:
    """The rows of `seeds` in runs of about BLOCK_STEPS steps."""
    steps = np.concatenate([[0], np.cumsum(lengths[seeds.indices])])[seeds.indptr]
    start = 0
    while start < seeds.shape[0]:
        stop = max(int(np.searchsorted(steps, steps[start] + BLOCK_STEPS, side="right")) - 1, start + 1)
        yield slice(start, stop)
        start = stop


def _without_diagonal(block: sp.csr_matrix, first: int) -> sp.csr_matrix:
    """No track is a neighbour of its own; row i of the block is track `first` + i."""
    rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    block.data[block.indices == rows + first] = 0
    return block
