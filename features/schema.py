"""Every table's column names and types, and the check at the door.

Input: a polars table somebody made. Output: the same table with exactly the promised columns and types, or one
SegueError that names what was expected and what was found. Knows no file and no model.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from features.domain import SegueError

PLAYLIST_ID = "playlist_id"
PLAYLIST_INDEX = "playlist_index"
TRACK_ID = "track_id"
TRACK_URI = "track_uri"
TRACK_INDEX = "track_index"
POSITION = "position"
PLAYS = "plays"
TIMESTAMP = "timestamp"
TITLE = "title"
ARTIST = "artist"
ALBUM = "album"
FOLLOWERS = "num_followers"
IS_CHALLENGE = "is_challenge"

NUMERIC_FEATURES = (
    "danceability",
    "energy",
    "loudness",
    "speechiness",
    "acousticness",
    "instrumentalness",
    "liveness",
    "valence",
    "tempo",
    "duration_ms",
    "popularity",
    "year",
)
"""Audio and bias features on a scale."""
CATEGORICAL_FEATURES = ("key", "mode", "time_signature", "explicit")
"""Features whose numbers name a category."""

VOCABULARY: Mapping[str, pl.DataType] = {TRACK_ID: pl.String()}
"""Row i is track_index i; most held track first, ties by id."""
INTERACTIONS: Mapping[str, pl.DataType] = {
    PLAYLIST_INDEX: pl.Int32(),
    TRACK_INDEX: pl.Int32(),
    POSITION: pl.Int32(),
    PLAYS: pl.Float32(),
}
"""One row per (playlist, track), sorted by playlist then position; repeats are added up into plays."""
PLAYLISTS: Mapping[str, pl.DataType] = {
    PLAYLIST_ID: pl.String(),
    TITLE: pl.String(),
    FOLLOWERS: pl.Int32(),
    IS_CHALLENGE: pl.Boolean(),
}
"""Row i is playlist_index i. Of a challenge playlist only the visible tracks are known."""
CATALOG: Mapping[str, pl.DataType] = {
    TITLE: pl.String(),
    ARTIST: pl.String(),
    ALBUM: pl.String(),
    "genre": pl.String(),
    **{name: pl.Float32() for name in (*NUMERIC_FEATURES, *CATEGORICAL_FEATURES)},
}
"""Row i is track_index i; whatever is not known is null."""


def conform(table: pl.DataFrame, schema: Mapping[str, pl.DataType], name: str) -> pl.DataFrame:
    """The columns of `schema` in its order and types; a missing column or an impossible type is an error."""
    missing = [column for column in schema if column not in table.columns]
    if missing:
        found = f"{', '.join(table.columns)}: {', '.join(missing)} missing"
        raise SegueError(f"{name}: expected the columns {', '.join(schema)}, found {found}")
    try:
        return table.select(pl.col(column).cast(dtype) for column, dtype in schema.items())
    except pl.exceptions.InvalidOperationError as error:
        expected = ", ".join(f"{column} {dtype}" for column, dtype in schema.items())
        found = ", ".join(f"{column} {table.schema[column]}" for column in schema)
        raise SegueError(f"{name}: expected {expected}, found {found}: {str(error).splitlines()[0]}") from error
