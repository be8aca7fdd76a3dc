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

from features.domain import Queries, Retrieved
from stages.retrieve import topk


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
    """Three plain arrays, which other processes can map into memory."""
    for part in ("data", "indices", "indptr"):
        np.save(folder / f"{name}.{part}.npy", getattr(matrix, part))


def open_sparse(folder: Path, name: str, num_columns: int) -> sp.csr_matrix:
    """What `save_sparse` wrote, mapped read-only."""
    data, indices, indptr = (
        np.load(folder / f"{name}.{part}.npy", mmap_mode="r", allow_pickle=False) for part in ("data", "indices", "indptr")
    )
    return sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, num_columns), copy=False)
