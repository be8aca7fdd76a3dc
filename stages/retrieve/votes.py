"""Similar playlists vote for the tracks they hold: what the neighbours and the title source share.

Input: keys of known playlists and of queries, such as the tracks they hold or the n-grams of their titles. Output: the
tracks that the playlists with the most similar keys vote for. Knows not what a key is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import scipy.sparse as sp

from features.arrays import load_array, save_array
from features.domain import Floats, Queries, Retrieved, SegueError
from stages.retrieve import topk

PARTS = {"data": np.float32, "indices": np.int32, "indptr": np.int64}
"""The arrays of a sparse matrix on disk."""


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

    def elect(self, keys: sp.csr_matrix, queries: Queries, n: int) -> Retrieved:
        """`keys` (q, num_keys) of the queries -> the `n` tracks with the most votes of the playlists nearest by cosine."""
        weighted = keys.copy()
        weighted.data = weighted.data * self.idf[weighted.indices]
        nearest = keep_largest((unit_rows(weighted) @ self.postings).tocsr(), self.neighbours)
        nearest.data **= self.sharpness
        return topk.top_of_sparse((nearest @ self.holds).tocsr(), queries, n)

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
    return _per_row(matrix, lambda columns, values: topk.best(columns[values > 0], values[values > 0], n))


def _per_row(matrix: sp.csr_matrix, keep: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> sp.csr_matrix:
    pairs = zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
    rows = [keep(matrix.indices[start:stop], matrix.data[start:stop]) for start, stop in pairs]
    indptr = np.concatenate([[0], np.cumsum([len(columns) for columns, _ in rows], dtype=np.int64)])
    columns = np.concatenate([columns for columns, _ in rows]) if rows else np.empty(0, np.int32)
    values = np.concatenate([values for _, values in rows]) if rows else np.empty(0, np.float32)
    return sp.csr_matrix((values, columns, indptr), shape=matrix.shape)


def unit_rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Each row scaled to euclidean length 1; an empty row stays empty."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return (sp.diags(scale.astype(np.float32)) @ matrix).tocsr().astype(np.float32)


def queries_matrix(queries: Queries, num_tracks: int) -> sp.csr_matrix:
    """(q, num_tracks) 1 where the query holds the track as a seed."""
    ones = np.ones(len(queries.seeds), np.float32)
    return sp.csr_matrix((ones, queries.seeds, queries.offsets), shape=(len(queries), num_tracks))


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
