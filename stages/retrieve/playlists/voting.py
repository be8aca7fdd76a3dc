"""Similar playlists vote for the tracks they hold: what the neighbours and the title source share.

Input: keys of known playlists and of queries, such as the tracks they hold or the n-grams of their titles. Output: the
tracks that the playlists with the most similar keys vote for. Knows not what a key is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import scipy.sparse as sp

from features.domain import Floats, Ints, Queries, Retrieved, SegueError
from features.npy import load_array, save_array
from stages.retrieve import topk
from stages.retrieve.sparse_sums import Weighted, room_for, rows_of, summed, top_of_sums

PARTS = {"data": np.float32, "indices": np.int32, "indptr": np.int64}
"""The arrays of a sparse matrix on disk."""
TINY = 1e-30
"""Shorter than any weights but those that are all 0."""


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
        weights = counts * self.idf[keys]
        weights /= max(float(np.linalg.norm(weights)), TINY)
        playlists, similarities = topk.best(*summed(self.postings, keys, weights, room), self.neighbours)
        return playlists, similarities**self.sharpness

    def save(self, folder: Path) -> None:
        save_sparse(folder, "holds", self.holds)
        save_sparse(folder, "postings", self.postings)
        save_array(folder / "idf.npy", self.idf)

    @classmethod
    def open(cls, folder: Path, num_keys: int, num_tracks: int, neighbours: int, sharpness: float) -> Self:
        holds = open_sparse(folder, "holds", num_tracks)
        idf = load_array(folder / "idf.npy", dtype=np.float32, shape=(num_keys,), mmap=True)
        return cls(holds, open_sparse(folder, "postings", holds.shape[0]), idf, neighbours, sharpness)


def keep_largest(matrix: sp.csr_matrix, n: int) -> sp.csr_matrix:
    """The `n` largest positive entries of each row; ties go to the lower column."""
    rows = [topk.best(columns[values > 0], values[values > 0], n) for columns, values in rows_of(matrix)]
    indptr = np.concatenate([[0], np.cumsum([len(columns) for columns, _ in rows], dtype=np.int64)])
    columns = np.concatenate([np.empty(0, np.int32), *(columns for columns, _ in rows)])
    values = np.concatenate([np.empty(0, np.float32), *(values for _, values in rows)])
    return sp.csr_matrix((values, columns, indptr), shape=matrix.shape)


def unit_rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Each row scaled to euclidean length 1; an empty row stays empty."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return (sp.diags(scale.astype(np.float32)) @ matrix).tocsr().astype(np.float32)


def save_sparse(folder: Path, name: str, matrix: sp.csr_matrix) -> None:
    """Plain arrays, which other processes can map into memory."""
    for part, dtype in PARTS.items():
        save_array(folder / f"{name}.{part}.npy", getattr(matrix, part).astype(dtype, copy=False))
    save_array(folder / f"{name}.shape.npy", np.array(matrix.shape, np.int64))


def open_sparse(folder: Path, name: str, num_columns: int) -> sp.csr_matrix:
    """What `save_sparse` wrote, mapped read-only; another number of columns than the wanted one is an error."""
    path = folder / f"{name}.shape.npy"
    rows, columns = load_array(path, dtype=np.int64, shape=(2,)).tolist()
    if columns != num_columns:
        raise SegueError(f"{path}: expected {num_columns} columns, found {columns}. Train again")
    indptr = load_array(folder / f"{name}.indptr.npy", dtype=PARTS["indptr"], shape=(rows + 1,), mmap=True)
    data, indices = (
        load_array(folder / f"{name}.{part}.npy", dtype=PARTS[part], shape=(int(indptr[-1]),), mmap=True) for part in ("data", "indices")
    )
    return sp.csr_matrix((data, indices, indptr), shape=(rows, columns), copy=False)
