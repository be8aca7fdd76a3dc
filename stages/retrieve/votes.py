"""Similar playlists vote for the tracks they hold: what the neighbours and the title source share.

Input: similarities (q, num_playlists) of queries to known playlists. Output: the tracks with the most votes.
Knows not what makes two playlists similar.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from features.arrays import load_array, save_array
from features.domain import Queries, Retrieved, SegueError
from stages.retrieve import topk

PARTS = {"data": np.float32, "indices": np.int32, "indptr": np.int64}
"""The arrays of a sparse matrix on disk."""


@dataclass(frozen=True)
class Voters:
    """The known playlists, and how many of the most similar ones may vote."""

    holds: sp.csr_matrix
    """(num_playlists, num_tracks) 1 where the playlist holds the track."""
    neighbours: int
    sharpness: float
    """A playlist's vote is its similarity to this power."""

    def elect(self, similarities: sp.csr_matrix, queries: Queries, n: int) -> Retrieved:
        nearest = keep_largest(similarities, self.neighbours)
        nearest.data **= self.sharpness
        return topk.top_of_sparse((nearest @ self.holds).tocsr(), queries, n)


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
