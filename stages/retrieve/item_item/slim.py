"""A sparse linear model of tracks on tracks: how much each seed says of a track, given what its other neighbours say.

Input: who holds what. Output: for every track the weights of its neighbours; a query is answered by the sum of its seeds'
rows. For each track j the weights w of its nearest tracks S, by cosine of their playlist sets, are those of a ridge regression,

    (G_SS + ridge I + shrinkage diag(G_SS)) w = G_Sj,      G = X'X: in how many playlists two tracks are together

of which the positive ones are kept. The model is SLIM (Ning and Karypis, "SLIM: Sparse Linear Methods for Top-N
Recommender Systems", 2011) with its feature selection by neighbours, solved in the closed form of EASE (Steck, "Embarrassingly
Shallow Autoencoders for Sparse Data", 2019; the shrinkage: "Autoencoders that don't overfit towards the Identity", 2020) on
each neighbourhood, so that nothing of size tracks x tracks is inverted.
Tracks of very few playlists say too little to be regressed on: they are neither seeds nor answers here. Of a large dataset a
sample of whole playlists is enough. With several workers each solves for its share of the tracks.
Knows no title, no content and no vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field

from features.domain import Floats, Ints
from features.interactions import Interactions
from stages.protocols import Report, TrainingData, silent
from stages.retrieve.item_item.model import Entries, Items
from stages.retrieve.playlists.voting import keep_largest

BLOCK = 256
"""Tracks solved for at once."""


class SlimRecipe(BaseModel):
    """How many neighbours are regressed on, how strongly they are shrunk, and how much is looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["slim"] = "slim"
    neighbours: int = Field(100, ge=1)
    ridge: float = Field(20.0, gt=0)
    shrinkage: float = Field(0.5, ge=0)
    """Ridge in proportion to the playlists that hold the neighbour, as dropping it out of that share of them would do."""
    least_playlists: int = Field(3, ge=1)
    """Tracks that fewer playlists hold are left out."""
    most_tracks: int = Field(50_000, ge=1)
    """Of more, the most held ones are kept."""
    most_entries: int = Field(5_000_000, ge=1)
    """A larger dataset is sampled down to playlists with about so many entries."""

    def fit(self, visible: TrainingData, report: Report = silent) -> Items:
        from stages import parallel  # it needs torch, which a server has no use for

        held = visible.interactions.sampled(self.most_entries, visible.seed)
        tracks = self._tracks(held)
        x = held.holds[:, tracks]
        together = (x.T @ x).tocsr()
        start, stop = parallel.shard(len(tracks))
        parts = []
        for first in range(start, stop, BLOCK):
            neighbours, targets, weights = self._solve(together, np.arange(first, min(first + BLOCK, stop)))
            parts.append((tracks[neighbours], tracks[targets], weights))
            report("slim", min(first + BLOCK - start, stop - start) / (stop - start), {})
        return Items.of(self.kind, parts, visible.num_tracks)

    def _tracks(self, held: Interactions) -> Ints:
        """(m,) the tracks of the model, ascending."""
        order = np.argsort(-held.track_counts, kind="stable")[: self.most_tracks]
        return np.sort(order[held.track_counts[order] >= self.least_playlists]).astype(np.int32)

    def _solve(self, together: sp.csr_matrix, targets: np.ndarray) -> Entries:
        """The positive weights of a block of tracks (b,), rows of `together` (m, m), by the model's own numbers of its tracks."""
        import torch

        near, wanted = self._neighbourhoods(together, targets)
        systems = np.stack([together[own][:, own].toarray() for own in near])  # (b, k, k)
        everywhere = np.arange(near.shape[1])
        systems[:, everywhere, everywhere] *= 1 + self.shrinkage
        padding = wanted == 0  # a neighbour shares a playlist; what shares none fills up the row
        systems[padding] = 0
        systems.transpose(0, 2, 1)[padding] = 0
        systems[:, everywhere, everywhere] += self.ridge
        weights = torch.linalg.solve(torch.from_numpy(systems), torch.from_numpy(wanted)[:, :, None])[:, :, 0].numpy()
        rows, columns = np.nonzero(weights > 0)
        return near[rows, columns], targets[rows], weights[rows, columns]

    def _neighbourhoods(self, together: sp.csr_matrix, targets: np.ndarray) -> tuple[Ints, Floats]:
        """(b, k) the nearest tracks of each target by cosine, and in how many playlists each is with it; padded with 0, 0."""
        shared, lengths = together[targets], np.sqrt(together.diagonal())
        of_row = np.repeat(np.arange(len(targets)), np.diff(shared.indptr))
        cosines = shared.copy()
        cosines.data /= lengths[shared.indices]  # the target's own length does not change its order
        cosines.data[shared.indices == targets[of_row]] = 0
        kept = keep_largest(cosines, self.neighbours)
        near = np.zeros((len(targets), self.neighbours), np.int32)
        wanted = np.zeros((len(targets), self.neighbours), np.float32)
        rows = np.repeat(np.arange(len(targets)), np.diff(kept.indptr))
        places = np.arange(kept.nnz) - kept.indptr[rows]
        near[rows, places] = kept.indices
        wanted[rows, places] = kept.data * lengths[kept.indices]
        return near, wanted

    def open(self, folder: Path, num_tracks: int) -> Items:
        return Items.open(self.kind, folder, num_tracks)
