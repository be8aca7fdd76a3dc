"""Sparse matrices: the largest entries, rows of length 1, and their files.

Input: scipy CSR matrices of float32. Output: the same, smaller or scaled, or plain arrays on disk that every process on a machine
shares. Does not know what rows and columns are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from features.arrays import MOST_ROWS, ArraySpec, floats, form, indices
from features.domain import Ints, SegueError
from features.npy import load_array, load_ragged, save_array
from features.ragged import offsets_of
from features.reading import RETRAIN
from stages.retrieve import topk
from stages.retrieve.sparse_sums import rows_of

PARTS = {"data": np.float32, "indices": np.int32, "indptr": np.int64}
"""The arrays of a sparse matrix on disk."""


def keep_largest(matrix: sp.csr_matrix, n: int) -> sp.csr_matrix:
    """The `n` largest positive entries of each row; ties go to the lower column."""
    rows = [topk.best(columns[values > 0], values[values > 0], n) for columns, values in rows_of(matrix)]
    indptr = offsets_of([len(columns) for columns, _ in rows])
    columns = np.concatenate([np.empty(0, np.int32), *(columns for columns, _ in rows)])
    values = np.concatenate([np.empty(0, np.float32), *(values for _, values in rows)])
    return sp.csr_matrix((values, columns, indptr), shape=matrix.shape)


def largest_by_group(groups: Ints, values: np.ndarray, n: int) -> sp.csr_matrix:
    """(num_groups, num_columns) the `n` largest `values` (num_columns,) of each group; ties go to the lower column.

    `groups` (num_columns,) is the group of each column, such as a track's artist; a negative one is no group.
    """
    grouped = np.flatnonzero(groups >= 0)
    largest = grouped[_rank_within(groups[grouped], -values[grouped]) < n]
    shape = (int(groups.max(initial=-1)) + 1, len(groups))
    return sp.csr_matrix((values[largest].astype(np.float32), (groups[largest], largest)), shape=shape)


def _rank_within(groups: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """(m,) the place, from 0, of each element within its group in ascending order of `keys`; equal keys in the given order."""
    order = np.lexsort((keys, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(groups)))
    place = np.empty(len(groups), np.int64)
    place[order] = np.arange(len(groups)) - np.repeat(starts, sizes)
    return place


def unit_rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Each row scaled to euclidean length 1; an empty row stays empty."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return (sp.diags(scale.astype(np.float32)) @ matrix).tocsr().astype(np.float32)


def save_sparse(folder: Path, name: str, matrix: sp.csr_matrix) -> None:
    """Writes plain arrays, which other processes can map into memory."""
    for part, dtype in PARTS.items():
        save_array(folder / f"{name}.{part}.npy", getattr(matrix, part).astype(dtype, copy=False))
    save_array(folder / f"{name}.shape.npy", np.array(matrix.shape, np.int64))


def open_sparse(folder: Path, name: str, shape: tuple[int | None, int]) -> sp.csr_matrix:
    """What `save_sparse` wrote, mapped read-only; SegueError where it has another shape than `shape`, where None stands for any
    number of rows, or a number below 0, with which sums of rows would be wrong."""
    path = folder / f"{name}.shape.npy"
    rows, columns = load_array(path, ArraySpec(np.int64, (2,), 0, MOST_ROWS)).tolist()
    if columns != shape[1] or shape[0] not in (None, rows):
        raise SegueError(f"{path}: expected {form(np.float32, shape)}, found {form(np.float32, (rows, columns))}. {RETRAIN}")
    held = load_ragged(folder / f"{name}.indices.npy", folder / f"{name}.indptr.npy", indices(None, below=columns), rows, mmap=True)
    data = load_array(folder / f"{name}.data.npy", floats(len(held.values), low=0), mmap=True)
    return sp.csr_matrix((data, held.values, held.offsets), shape=(rows, columns), copy=False)
