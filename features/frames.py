"""A dataset in memory, from pairs of (playlist, track) in a table or a sparse matrix.

Input: a polars, pandas or Arrow table with two columns, or a scipy matrix of playlists x tracks. Output: a Dataset that knows
the interactions and nothing else of a track. Knows no file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

import numpy as np
import polars as pl
import scipy.sparse as sp

from features.catalog import Catalog
from features.dataset import Dataset
from features.domain import SegueError
from features.interactions import Interactions
from features.schema import FOLLOWERS, IS_CHALLENGE, PLAYLIST_ID, PLAYLIST_INDEX, PLAYLISTS, PLAYS, TITLE, TRACK_ID, TRACK_INDEX, conform
from features.vocabulary import Vocabulary


@runtime_checkable
class ArrowTable(Protocol):
    """A table of any library that speaks Arrow, such as polars, pandas or pyarrow."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


class SparseMatrix(Protocol):
    """Any of scipy's."""

    def tocsr(self) -> Any: ...


Pairs: TypeAlias = ArrowTable | SparseMatrix


def is_pairs(data: object) -> TypeGuard[Pairs]:
    return isinstance(data, ArrowTable) or sp.issparse(data)


def dataset_of(pairs: Pairs) -> Dataset:
    """A playlist keeps the order of its rows; a repeated pair counts once, with more plays.

    Of a table, the columns are `playlist_id` and `track_id`, or the only two there are, in that order; tracks are numbered from the
    most held one on, equal counts by id. Of a matrix, an entry is how often the playlist (row) holds the track (column), and rows
    and columns keep their numbers, which are their ids. SegueError for other columns and for missing values.
    """
    if isinstance(pairs, ArrowTable):
        return _of_table(pl.DataFrame(pairs))
    return _of_matrix(sp.csr_matrix(pairs, copy=True))


def _of_matrix(matrix: sp.csr_matrix) -> Dataset:
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if not (matrix.data > 0).all():
        found = matrix.data[~(matrix.data > 0)][0]
        raise SegueError(f"matrix: expected entries of 0 or more, found {found}. An entry says how often a playlist holds a track")
    rows, columns = matrix.shape
    table = pl.DataFrame(
        {
            PLAYLIST_INDEX: np.repeat(np.arange(rows, dtype=np.int32), np.diff(matrix.indptr)),
            TRACK_INDEX: matrix.indices.astype(np.int32),
            PLAYS: matrix.data.astype(np.float32),
        }
    )
    return _dataset(table, [str(row) for row in range(rows)], [str(column) for column in range(columns)])


def _of_table(table: pl.DataFrame) -> Dataset:
    pairs = _pairs(table)
    counted = pairs.group_by([PLAYLIST_ID, TRACK_ID], maintain_order=True).agg(pl.len().cast(pl.Float32).alias(PLAYS))
    playlists = counted[PLAYLIST_ID].unique(maintain_order=True)
    tracks = counted.group_by(TRACK_ID).len().sort("len", TRACK_ID, descending=[True, False])[TRACK_ID]
    indexed = counted.select(_index(PLAYLIST_ID, playlists).alias(PLAYLIST_INDEX), _index(TRACK_ID, tracks).alias(TRACK_INDEX), PLAYS)
    return _dataset(indexed.sort(PLAYLIST_INDEX, maintain_order=True), playlists.to_list(), tracks.to_list())


def _index(column: str, ids: pl.Series) -> pl.Expr:
    """The place of each value of `column` in `ids`."""
    return pl.col(column).replace_strict(ids, pl.int_range(len(ids), eager=True)).cast(pl.Int32)


def _pairs(table: pl.DataFrame) -> pl.DataFrame:
    """(playlist_id, track_id) as text."""
    columns = [PLAYLIST_ID, TRACK_ID] if {PLAYLIST_ID, TRACK_ID} <= set(table.columns) else table.columns
    if len(columns) != 2:
        raise SegueError(f"pairs: expected the columns {PLAYLIST_ID} and {TRACK_ID}, or two columns, found {', '.join(columns) or 'none'}")
    pairs = table.select(pl.col(column).cast(pl.String).alias(name) for column, name in zip(columns, (PLAYLIST_ID, TRACK_ID), strict=True))
    if missing := sum(pairs.null_count().row(0)):
        raise SegueError(f"pairs: expected a playlist and a track in every row, found {missing} missing values. Drop those rows first")
    return pairs


def _dataset(table: pl.DataFrame, playlists: Sequence[str], tracks: Sequence[str]) -> Dataset:
    """`table` has playlist_index, track_index and plays, sorted by playlist."""
    held = Interactions.from_parts([table], table.height, [""] * len(playlists), len(tracks))
    known = pl.DataFrame({PLAYLIST_ID: pl.Series(playlists, dtype=pl.String)}).with_columns(
        pl.lit("").alias(TITLE), pl.lit(None, pl.Int32).alias(FOLLOWERS), pl.lit(False).alias(IS_CHALLENGE)
    )
    vocabulary = Vocabulary(tracks)
    return Dataset(vocabulary, Catalog.unknown(len(tracks)), conform(known, PLAYLISTS, "playlists"), held, _fingerprint(vocabulary, held))


def _fingerprint(vocabulary: Vocabulary, held: Interactions) -> str:
    digest = hashlib.sha256(vocabulary.hash.encode())
    for array in (held.tracks, held.plays, held.offsets):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
