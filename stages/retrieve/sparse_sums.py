"""Weighted sums of a sparse matrix's rows: the scores of tracks from seeds or from similar playlists.

Input: a sparse matrix of positive numbers, and which of its rows each query adds up. Output: the columns of the largest sums.
Does not know what rows and columns are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import scipy.sparse as sp

from features.domain import Floats, Ints, Offsets, Queries, Retrieved
from features.jit import compiled
from stages.retrieve import topk

Weighted = tuple[Ints, Floats]
"""(k,) rows or columns, (k,) their weights."""


def top_of_sums(matrix: sp.csr_matrix, asked: Iterable[Weighted], queries: Queries, n: int) -> Retrieved:
    """For each query the `n` tracks, columns of `matrix`, with the largest sums over the rows it `asked` for."""
    result, room = topk.empty(len(queries), n), room_for(matrix)
    for i, (rows, weights) in enumerate(asked):
        tracks, sums = summed(matrix, rows, weights, room)
        topk.put(result, i, tracks, sums, queries.excluded(i))
    return result


def rows_of(matrix: sp.csr_matrix) -> Iterator[Weighted]:
    """Each row's columns and numbers."""
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        yield matrix.indices[start:stop], matrix.data[start:stop]


def each_seed_once(queries: Queries) -> Iterator[Weighted]:
    """Each query's seeds, all of weight 1."""
    for i in range(len(queries)):
        seeds = queries.seeds_of(i)
        yield seeds, np.ones(len(seeds), np.float32)


def room_for(matrix: sp.csr_matrix) -> Floats:
    """(num_columns,) zeros, in which `summed` adds up one query after the other."""
    return np.zeros(matrix.shape[1], np.float32)


def summed(matrix: sp.csr_matrix, rows: Ints, weights: Floats, room: Floats) -> Weighted:
    """The columns in which the `rows` (k,) of `matrix` have anything, in no order, and their sums by `weights` (k,)."""
    return _summed(matrix.indptr, matrix.indices, matrix.data, rows, weights, room)


@compiled
def _summed(indptr: Offsets, indices: Ints, data: Floats, rows: Ints, weights: Floats, room: Floats) -> tuple[Ints, Floats]:
    """No number is negative, so that a column at 0 is new to what is added; `room` is all zeros before and after."""
    entries = 0
    for row in rows:
        entries += indptr[row + 1] - indptr[row]
    columns, count = np.empty(entries + 1, np.int32), 0
    for place in range(rows.size):
        for entry in range(indptr[rows[place]], indptr[rows[place] + 1]):
            column, added = indices[entry], weights[place] * data[entry]
            columns[count] = column
            count += int(room[column] == 0 and added > 0)
            room[column] += added
    found = columns[:count]
    sums = room[found]
    room[found] = 0
    return found, sums
