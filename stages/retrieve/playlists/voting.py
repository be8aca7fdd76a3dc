"""Similar playlists vote for the tracks they hold: what the neighbours and the title source share.

Input: keys of known playlists and of queries, such as the tracks they hold or the n-grams of their titles. Output: the
tracks that the playlists with the most similar keys vote for. Does not know what a key is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import scipy.sparse as sp

from features.arrays import floats
from features.domain import Floats, Ints, Queries, Retrieved
from features.npy import load_array, save_array
from features.unit_length import unit
from stages.retrieve import topk
from stages.retrieve.sparse import open_sparse, save_sparse, unit_rows
from stages.retrieve.sparse_sums import Weighted, room_for, summed, top_of_sums


@dataclass(frozen=True)
class Voters:
    """Known playlists, found by weighted keys such as the tracks they hold, and how many of the nearest may vote."""

    holds: sp.csr_matrix
    """(num_playlists, num_tracks) 1 where the playlist holds the track."""
    postings: sp.csr_matrix
    """(num_keys, num_playlists) the idf-weighted keys of each playlist, scaled to length 1."""
    idf: Floats
    """(num_keys,) ln((num_playlists + 1) / (playlists with the key + 1))."""
    neighbours: int
    sharpness: float
    """A playlist's vote is its similarity to this power."""

    @classmethod
    def of(cls, holds: sp.csr_matrix, keys: sp.csr_matrix, neighbours: int, sharpness: float) -> Self:
        """`keys` (num_playlists, num_keys): how much each playlist has of each key."""
        frequency = np.bincount(keys.indices, minlength=keys.shape[1])
        idf = np.log((keys.shape[0] + 1) / (frequency + 1)).astype(np.float32)
        return cls(holds, unit_rows((keys @ sp.diags(idf)).tocsr()).T.tocsr(), idf, neighbours, sharpness)

    def elect(self, asked: Iterable[Weighted], queries: Queries, n: int) -> Retrieved:
        """For each query the `n` tracks with the most votes of the playlists nearest by cosine to the keys it `asked` with."""
        room = room_for(self.postings)
        return top_of_sums(self.holds, (self._votes(keys, counts, room) for keys, counts in asked), queries, n)

    def _votes(self, keys: Ints, counts: Floats, room: Floats) -> Weighted:
        """The playlists nearest to a query that has each of `keys` (k,) `counts` (k,) times, and what their votes count."""
        weights = unit(counts * self.idf[keys])
        playlists, similarities = topk.best(*summed(self.postings, keys, weights, room), self.neighbours)
        return playlists, similarities**self.sharpness

    def save(self, folder: Path) -> None:
        save_sparse(folder, "holds", self.holds)
        save_sparse(folder, "postings", self.postings)
        save_array(folder / "idf.npy", self.idf)

    @classmethod
    def open(cls, folder: Path, num_keys: int, num_tracks: int, neighbours: int, sharpness: float) -> Self:
        holds = open_sparse(folder, "holds", (None, num_tracks))
        postings = open_sparse(folder, "postings", (num_keys, holds.shape[0]))
        return cls(holds, postings, load_array(folder / "idf.npy", floats(num_keys, low=0), mmap=True), neighbours, sharpness)
