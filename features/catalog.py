"""What is known of a track before anyone plays it: title, artist, album, genre and audio features.

Input: the catalog table, one row per track_index. Output: the same as arrays. Knows no playlist and no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from features.arrays import ArraySpec, indices
from features.domain import NO_TRACK, Ints, counted
from features.schema import ALBUM, ARTIST, CATALOG

UNKNOWN = NO_TRACK
"""The artist or album index of a track whose artist or album is not known."""


@dataclass(frozen=True)
class Catalog:
    """`table` in schema.CATALOG: row i describes track_index i."""

    table: pl.DataFrame

    @classmethod
    def unknown(cls, num_tracks: int) -> Catalog:
        """Tracks of which nothing is known."""
        return cls(pl.DataFrame({name: pl.Series([None] * num_tracks, dtype=dtype) for name, dtype in CATALOG.items()}))

    def __len__(self) -> int:
        """How many tracks."""
        return self.table.height

    def __repr__(self) -> str:
        return f"Catalog({counted(len(self), 'track')})"

    @cached_property
    def artists(self) -> Ints:
        """(num_tracks,) dense artist index, UNKNOWN where the artist is not known."""
        return _dense(self.table[ARTIST])

    @cached_property
    def artist_names(self) -> tuple[str, ...]:
        """(num_artists,) by dense artist index."""
        return tuple(_names(self.table[ARTIST]).to_list())

    @cached_property
    def albums(self) -> Ints:
        """(num_tracks,) dense index of (artist, album), UNKNOWN where the album is not known."""
        both = pl.concat_str(pl.col(ALBUM), pl.col(ARTIST).fill_null(""), separator="\x1f")
        return _dense(self.table.select(both.alias(ALBUM))[ALBUM])


def group_indices(num_tracks: int) -> ArraySpec:
    """Of an array that says for each track which artist or album it has, UNKNOWN where that is not known; none has no track."""
    return indices(num_tracks, below=num_tracks, low=UNKNOWN)


def _dense(names: pl.Series) -> Ints:
    """Indices in order of first appearance, so that they do not depend on the platform's sorting."""
    index = _names(names).alias("name").to_frame().with_row_index("index")
    found = names.alias("name").to_frame().join(index, on="name", how="left", maintain_order="left")["index"]
    return found.cast(pl.Int32).fill_null(UNKNOWN).to_numpy(writable=True)


def _names(names: pl.Series) -> pl.Series:
    """Each known name once, in order of first appearance."""
    return names.drop_nulls().unique(maintain_order=True)
