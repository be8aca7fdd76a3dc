"""Files people have -> tables: Million Playlist Dataset slices, tables of who holds what, tables of tracks.

Input: an MPD zip (read in place), a folder of slices, one slice as `.json` or `.json.gz`, a challenge file (a slice
without `info`), or a parquet or CSV table. Output: `Slice`s of whole playlists, one at a time, so that a source is never
in memory as a whole (a CSV, or a table whose playlists do not stand together, is: nothing else keeps its order).
A bad file is one SegueError that names the file, what was expected and what was found.
Knows no track_index and nothing of other sources: repeats and ids are as the file has them.
"""

from __future__ import annotations

import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl

from features.domain import SegueError
from features.schema import (
    ALBUM,
    ARTIST,
    CATALOG,
    CATEGORICAL_FEATURES,
    FOLLOWERS,
    NUMERIC_FEATURES,
    PLAYLIST_ID,
    PLAYLIST_INDEX,
    PLAYS,
    POSITION,
    TIMESTAMP,
    TITLE,
    TRACK_ID,
    TRACK_URI,
    conform,
)

T = TypeVar("T")
Names = Mapping[str, Sequence[str]]
"""Per column of ours the names it may have in a file, the preferred one first."""

DURATION = "duration_ms"
KNOWN_FROM_PLAYLISTS = (TITLE, ARTIST, ALBUM, DURATION)
"""What a playlist's entry may say of its track."""

SLICE_PLAYLISTS: Mapping[str, pl.DataType] = {PLAYLIST_ID: pl.String(), TITLE: pl.String(), FOLLOWERS: pl.Int32()}
SLICE_ENTRIES: Mapping[str, pl.DataType] = {
    PLAYLIST_INDEX: pl.UInt32(),
    TRACK_ID: pl.String(),
    POSITION: pl.Int32(),
    PLAYS: pl.Float32(),
    TITLE: pl.String(),
    ARTIST: pl.String(),
    ALBUM: pl.String(),
    DURATION: pl.Float32(),
}

_ROWS_AT_ONCE = 1_000_000
_NAMES = {
    TITLE: (TITLE, "track_name", "name"),
    ARTIST: (ARTIST, "artist_name", "artists", "artist_id"),
    ALBUM: (ALBUM, "album_name", "album_id"),
    DURATION: (DURATION,),
    "duration_sec": ("duration_sec",),
}
_ID = {TRACK_ID: (TRACK_ID, TRACK_URI)}
_HELD = {PLAYLIST_ID: (PLAYLIST_ID,), **_ID, POSITION: (POSITION,), PLAYS: (PLAYS,), TIMESTAMP: (TIMESTAMP,), **_NAMES}
_SCALES = (*NUMERIC_FEATURES, *CATEGORICAL_FEATURES)
_TRACK = {**_ID, **_NAMES, "genre": ("genre", "track_genre"), **{name: (name,) for name in _SCALES}}

_ENTRY_NAMES = {"pos": POSITION, TRACK_URI: TRACK_ID, "track_name": TITLE, "artist_name": ARTIST, "album_name": ALBUM, DURATION: DURATION}
_ENTRY = pl.Struct({theirs: {POSITION: pl.Int64, DURATION: pl.Float64}.get(ours, pl.String) for theirs, ours in _ENTRY_NAMES.items()})
_PLAYLIST = pl.Struct({"pid": pl.String, "name": pl.String, FOLLOWERS: pl.Int64, "tracks": pl.List(_ENTRY)})
"""The keys of a slice that are read; every other key is passed over."""


@dataclass(frozen=True)
class Slice:
    """Some whole playlists of one source."""

    playlists: pl.DataFrame
    """SLICE_PLAYLISTS; title "" and 0 followers where the source does not say."""
    entries: pl.DataFrame
    """SLICE_ENTRIES, sorted by playlist then position; PLAYLIST_INDEX counts the rows of `playlists`."""


@dataclass(frozen=True)
class Piece:
    """One slice that has not been read yet: small, so that it can be handed to another process."""

    path: Path
    member: str = ""
    """The file inside a zip."""
    rows: tuple[int, int] | None = None
    """First row and number of rows, inside a parquet table."""

    @property
    def name(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def read(self) -> Slice:
        """SegueError when the file is not what it should be."""
        if _is_table(self.path):
            return _slice_of_table(_read_table(self.path, _HELD, (PLAYLIST_ID, TRACK_ID), self.rows), self.name)
        return _slice_of_json(_bytes(self), self.name)


def pieces(source: Path) -> list[Piece]:
    """What there is to read in `source`, in its natural order; SegueError when there is nothing."""
    if not source.exists():
        raise SegueError(f"{source}: expected a file or folder, found nothing of that name")
    if source.is_dir():
        return [Piece(path) for path in _slices(source, {str(path): path for path in source.rglob("*") if path.is_file()})]
    if source.suffix == ".zip":
        with _reading(str(source), "a zip archive"), zipfile.ZipFile(source) as archive:
            return [Piece(source, member) for member in _slices(source, {name: name for name in archive.namelist()})]
    if source.suffix == ".parquet":
        return [Piece(source, rows=rows) for rows in _runs_of_playlists(source)]
    if _is_table(source) or _is_slice(source.name):
        return [Piece(source)]
    raise SegueError(f"{source}: expected a folder, .zip, .json, .json.gz, .parquet or .csv, found the ending {source.suffix!r}")


def read_tracks(path: Path) -> pl.DataFrame:
    """TRACK_ID and the columns of schema.CATALOG, one row per track (the first one of a repeated id).

    Null where the file says nothing or says something that is no finite number; SegueError for text in a number's place.
    """
    if not path.exists():
        raise SegueError(f"{path}: expected a parquet or CSV table of tracks, found nothing of that name")
    if not _is_table(path):
        raise SegueError(f"{path}: expected a .parquet or .csv table of tracks, found the ending {path.suffix!r}")
    table = _with_milliseconds(_read_table(path, _TRACK, (TRACK_ID,)))
    with _reading(str(path), "numbers in the audio features and text in the names"):
        known = table.with_columns(_number(column, table[column].dtype) for column in _SCALES if column in table.columns)
        return _completed(known, {TRACK_ID: pl.String(), **CATALOG}, str(path)).unique(TRACK_ID, keep="first", maintain_order=True)


# --- slices ---------------------------------------------------------------------------------------------------------


def _slice_of_json(raw: bytes, name: str) -> Slice:
    playlists = _parsed(raw, name).with_row_index(PLAYLIST_INDEX)
    _require(playlists, "pid", "playlist", name)
    _require(playlists, "tracks", "playlist", name)
    entries = playlists.select(PLAYLIST_INDEX, "tracks").explode("tracks", keep_nulls=False).unnest("tracks")
    _require(entries, TRACK_URI, "track", name)
    said = conform(playlists.rename({"pid": PLAYLIST_ID, "name": TITLE}), SLICE_PLAYLISTS, name)
    known = said.with_columns(pl.col(TITLE).fill_null(""), pl.col(FOLLOWERS).fill_null(0))
    return Slice(known, _in_order(entries.rename(_ENTRY_NAMES), (POSITION,), name))


def _parsed(raw: bytes, name: str) -> pl.DataFrame:
    """One row per playlist, straight from the text into columns: no Python object is made of an entry."""
    expected = '{"playlists": [{"pid", "tracks": [{"track_uri"}]}]}'
    if not raw.strip():
        raise SegueError(f"{name}: expected {expected}, found an empty file")
    try:
        document = pl.read_json(raw, schema={"playlists": pl.List(_PLAYLIST)})
    except pl.exceptions.PolarsError as error:
        raise SegueError(f"{name}: expected {expected}, found {_described(raw, error)}") from error
    if document.height != 1 or document["playlists"].null_count():
        raise SegueError(f"{name}: expected {expected}, found {_described(raw, None)}")
    return document.explode("playlists", keep_nulls=False).unnest("playlists")


def _described(raw: bytes, refused: Exception | None) -> str:
    """What a file that is no slice holds instead; slow, and only asked on the way to an error."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return f"text that is no JSON or breaks off ({_first_line(error)})"
    if isinstance(document, dict) and "playlists" not in document:
        return f"an object with the keys {', '.join(document) or 'none'}"
    if not isinstance(document, dict):
        return f"a JSON {type(document).__name__}"
    return f"playlists of another shape ({_first_line(refused) if refused else 'null'})"


def _bytes(piece: Piece) -> bytes:
    with _reading(piece.name, "a slice that can be read to its end"):
        if piece.member:
            with zipfile.ZipFile(piece.path) as archive:
                return archive.read(piece.member)
        return gzip.decompress(piece.path.read_bytes()) if piece.path.suffix == ".gz" else piece.path.read_bytes()


def _slices(source: Path, files: Mapping[str, T]) -> list[T]:
    """The slices among `files`, numbers in their names in the order of numbers."""
    names = [name for name in files if _is_slice(name)]
    if not names:
        raise SegueError(f"{source}: expected slices such as mpd.slice.0-999.json, found {len(files)} files and no .json or .json.gz")
    return [files[name] for name in sorted(names, key=_natural)]


def _is_slice(name: str) -> bool:
    return name.endswith((".json", ".json.gz")) and not re.search(r"(^|/)(\.|__MACOSX/)", name)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


# --- tables ---------------------------------------------------------------------------------------------------------


def _slice_of_table(table: pl.DataFrame, name: str) -> Slice:
    playlists = table.select(pl.col(PLAYLIST_ID).unique(maintain_order=True)).with_row_index(PLAYLIST_INDEX)
    entries = _with_milliseconds(table).join(playlists, on=PLAYLIST_ID, how="left", maintain_order="left")
    order = [column for column in (POSITION, TIMESTAMP) if column in table.columns][:1]
    nameless = playlists.select(PLAYLIST_ID, pl.lit("").alias(TITLE), pl.lit(0, pl.Int32).alias(FOLLOWERS))
    return Slice(nameless, _in_order(entries, order, name))


def _read_table(path: Path, names: Names, required: Sequence[str], rows: tuple[int, int] | None = None) -> pl.DataFrame:
    """The columns of `names` that the file has, under our names, ids as text."""
    with _reading(str(path), "a parquet table" if path.suffix == ".parquet" else "a CSV table"):
        found = list(pl.read_parquet_schema(path)) if path.suffix == ".parquet" else pl.read_csv(path, n_rows=0).columns
        chosen = _chosen(found, names, required, path)
        table = _columns(path, chosen, rows)
    if not table.height:
        raise SegueError(f"{path}: expected rows with {' and '.join(required)}, found none")
    with _reading(str(path), "ids that are text or integers"):
        table = table.with_columns(pl.col(column).cast(pl.String) for column in required)
    for column in required:
        _require(table, column, "row", str(path))
    return table


def _chosen(found: Sequence[str], names: Names, required: Sequence[str], path: Path) -> dict[str, str]:
    """Per column of the file that is read, the name it gets."""
    first = {ours: next((name for name in theirs if name in found), None) for ours, theirs in names.items()}
    missing = [" or ".join(names[column]) for column in required if first[column] is None]
    if missing:
        raise SegueError(f"{path}: expected the columns {', '.join(required)}, found {', '.join(found)}: {', '.join(missing)} missing")
    return {theirs: ours for ours, theirs in first.items() if theirs is not None}


def _columns(path: Path, chosen: Mapping[str, str], rows: tuple[int, int] | None) -> pl.DataFrame:
    if path.suffix == ".parquet":
        scan = pl.scan_parquet(path).select(list(chosen))
        return (scan.slice(*rows) if rows else scan).collect().rename(chosen)
    ids = {theirs: pl.String for theirs, ours in chosen.items() if ours in (PLAYLIST_ID, TRACK_ID, TITLE, ARTIST, ALBUM)}
    return pl.read_csv(path, columns=list(chosen), schema_overrides=ids, infer_schema_length=None).rename(chosen)


def _runs_of_playlists(path: Path) -> list[tuple[int, int]]:
    """(first row, number of rows) of parts of about _ROWS_AT_ONCE rows that cut no playlist in two."""
    with _reading(str(path), "a parquet table"):
        found = list(pl.read_parquet_schema(path))
        _chosen(found, _HELD, (PLAYLIST_ID, TRACK_ID), path)
        ids = pl.read_parquet(path, columns=[PLAYLIST_ID])[PLAYLIST_ID]
    starts = np.append(0, ids[1:].ne_missing(ids[:-1]).arg_true().to_numpy() + 1)
    if len(starts) != ids.n_unique():
        return [(0, len(ids))]
    cuts = np.unique(starts[np.searchsorted(starts, np.arange(0, starts[-1] + 1, _ROWS_AT_ONCE))])
    return [(int(start), int(stop - start)) for start, stop in zip(cuts, [*cuts[1:], len(ids)], strict=True)]


def _with_milliseconds(table: pl.DataFrame) -> pl.DataFrame:
    if "duration_sec" not in table.columns or DURATION in table.columns:
        return table
    return table.with_columns((pl.col("duration_sec").cast(pl.Float64) * 1000).alias(DURATION))


def _number(column: str, dtype: pl.DataType) -> pl.Expr:
    """As float32, null where it is not finite; yes and no may be spelled."""
    spelled = pl.col(column).str.to_lowercase().replace({"true": "1", "false": "0", "": None}) if dtype == pl.String else pl.col(column)
    number = spelled.cast(pl.Float32)
    return pl.when(number.is_finite()).then(number).alias(column)


# --- both -----------------------------------------------------------------------------------------------------------


def _in_order(entries: pl.DataFrame, order: Sequence[str], name: str) -> pl.DataFrame:
    """SLICE_ENTRIES sorted by `order` within each playlist, in the file's order where that says nothing."""
    ordered = entries.sort(PLAYLIST_INDEX, *order, maintain_order=True, nulls_last=True)
    place = pl.int_range(pl.len()).over(PLAYLIST_INDEX)
    position = pl.coalesce(pl.col(POSITION), place) if POSITION in ordered.columns else place
    plays = pl.col(PLAYS).fill_null(1) if PLAYS in ordered.columns else pl.lit(1)
    with _reading(name, "whole numbers as positions and numbers as plays"):
        return _completed(ordered.with_columns(position.alias(POSITION), plays.alias(PLAYS)), SLICE_ENTRIES, name)


def _completed(table: pl.DataFrame, schema: Mapping[str, pl.DataType], name: str) -> pl.DataFrame:
    """`table` in `schema`; a column it lacks is all null, and so is an empty name."""
    missing = [pl.lit(None, dtype).alias(column) for column, dtype in schema.items() if column not in table.columns]
    complete = conform(table.with_columns(missing), schema, name)
    return complete.with_columns(pl.col(column).replace("", None) for column in (TITLE, ARTIST, ALBUM))


def _require(table: pl.DataFrame, column: str, what: str, name: str) -> None:
    """Every row says `column`."""
    values = table[column].replace("", None) if table[column].dtype == pl.String else table[column]
    if values.null_count():
        first = values.is_null().arg_max()
        raise SegueError(f"{name}: expected a {column} in every {what}, found {values.null_count()} without, the first at place {first}")


def _is_table(path: Path) -> bool:
    return path.suffix in (".parquet", ".csv")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def _reading(name: str, expected: str) -> Iterator[None]:
    """What a library says of a bad file becomes our one line; a file that may not be read stays an OSError."""
    try:
        yield
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise SegueError(f"{name}: expected {expected}, found something else or a part of it: {_first_line(error)}") from error
    except pl.exceptions.PolarsError as error:
        raise SegueError(f"{name}: expected {expected}, found {_first_line(error)}") from error
