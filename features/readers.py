"""Files people have -> tables: Million Playlist Dataset slices, tables of who holds what, tables of tracks.

Input: an MPD zip (read in place), a folder of slices or of Exportify's CSVs, one slice as `.json` or `.json.gz`, a challenge file (a slice
without `info`), or a parquet or text table, whose columns are found in any case and read as `features.columns` says.
Output: `Slice`s of whole playlists, one at a time, so that a source is never in memory as a whole (a text table, or one
whose playlists do not stand together, is: nothing else keeps its order).
A bad file is one SegueError that names the file, what was expected and what was found.
Knows no track_index and nothing of other sources: repeats and ids are as the file has them.
"""

from __future__ import annotations

import difflib
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

from features.columns import FIRST_OF_LIST, INSTANT, PLACE, PLAY_COUNT, SCALE, TEXT, YEAR, Misfit, Reading, read, without_blanks
from features.delimited import header_of, is_delimited, line_of, read_text
from features.domain import SegueError
from features.exportify import columns_of_export, name_of_export
from features.reading import first_line
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
_SECONDS = "duration_sec"
_RELEASED = "release_date"
_LIST_TITLE = "playlist_name"
_NAMES = {
    TITLE: (TITLE, "track_name", "name"),
    ARTIST: (ARTIST, "artist_name", "artists", "artist_id"),
    ALBUM: (ALBUM, "album_name", "album_id"),
    DURATION: (DURATION,),
    _SECONDS: (_SECONDS,),
}
_ID = {TRACK_ID: (TRACK_ID, TRACK_URI)}
_HELD = {
    PLAYLIST_ID: (PLAYLIST_ID,),
    **_ID,
    POSITION: (POSITION, "pos"),
    PLAYS: (PLAYS,),
    TIMESTAMP: (TIMESTAMP,),
    **_NAMES,
    _LIST_TITLE: (_LIST_TITLE, "playlist_title"),
    FOLLOWERS: (FOLLOWERS,),
}
_SCALES = (*NUMERIC_FEATURES, *CATEGORICAL_FEATURES)
_TRACK = {
    **_ID,
    **_NAMES,
    "genre": ("genre", "track_genre"),
    **{name: (name,) for name in _SCALES},
    _RELEASED: (_RELEASED, "album_release_date"),
}
_READINGS: Mapping[str, Reading] = {
    **dict.fromkeys((PLAYLIST_ID, TRACK_ID, TITLE, ALBUM, "genre", _LIST_TITLE), TEXT),
    ARTIST: FIRST_OF_LIST,
    **dict.fromkeys((*_SCALES, _SECONDS, FOLLOWERS), SCALE),
    POSITION: PLACE,
    PLAYS: PLAY_COUNT,
    TIMESTAMP: INSTANT,
    _RELEASED: YEAR,
}
_MOST_FOLLOWERS = 2**31 - 1

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
    title_of_playlists: bool | None = None
    """Whether a parquet table's `title` is the playlists' title; None where that is still to be found out."""

    @property
    def name(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def read(self) -> Slice:
        """SegueError when the file is not what it should be."""
        if exported := _columns_of_export(self.path):
            return _slice_of_table(_read_export(self.path, exported), self)
        if _is_table(self.path):
            return _slice_of_table(_read_table(self.path, _HELD, (PLAYLIST_ID, TRACK_ID), self.rows), self)
        return _slice_of_json(_bytes(self), self.name)


def pieces(source: Path) -> list[Piece]:
    """What there is to read in `source`, in its natural order; SegueError when there is nothing."""
    if not source.exists():
        raise SegueError(f"{source}: expected a file or folder, found nothing of that name")
    if source.is_dir():
        files = {str(path): path for path in source.rglob("*") if path.is_file()}
        if not any(map(_is_slice, files)):
            exports = [Piece(files[name]) for name in sorted(files, key=_natural) if _columns_of_export(files[name])]
            if exports:
                return exports
        return [Piece(path) for path in _slices(source, files)]
    if source.suffix.lower() == ".zip":
        with _reading(str(source), "a zip archive"), zipfile.ZipFile(source) as archive:
            return [Piece(source, member) for member in _slices(source, {name: name for name in archive.namelist()})]
    if _is_parquet(source):
        runs = _runs_of_playlists(source)
        said = _names_playlists(_read_table(source, _HELD, (PLAYLIST_ID, TRACK_ID), runs[0])) if len(runs) > 1 else None
        return [Piece(source, rows=rows, title_of_playlists=said) for rows in runs]
    if _is_table(source) or _is_slice(source.name):
        return [Piece(source)]
    raise SegueError(f"{source}: expected a folder, .zip, .json, .json.gz, .parquet, .csv or .tsv, found the ending {source.suffix!r}")


def read_tracks(path: Path) -> pl.DataFrame:
    """TRACK_ID and the columns of schema.CATALOG, one row per track (the first one of a repeated id).

    Null where the file says nothing or says something that is no finite number; SegueError for text in a number's place, and for
    a file with columns beside the id of which none is known.
    """
    if not path.exists():
        raise SegueError(f"{path}: expected a parquet or CSV table of tracks, found nothing of that name")
    if not _is_table(path):
        raise SegueError(f"{path}: expected a .parquet or .csv table of tracks, found the ending {path.suffix!r}")
    table = _with_year(_with_milliseconds(_read_table(path, _TRACK, (TRACK_ID,))))
    if table.columns == [TRACK_ID] and len(found := _header(path)) > 1:
        raise SegueError(f"{path}: expected any of the columns {', '.join(CATALOG)} beside the id, found {', '.join(found)}")
    finite = [pl.col(column).cast(pl.Float32) for column in _SCALES if column in table.columns]
    known = table.with_columns(pl.when(number.is_finite()).then(number) for number in finite)
    return _completed(known, {TRACK_ID: pl.String(), **CATALOG}, str(path)).unique(TRACK_ID, keep="first", maintain_order=True)


# --- slices ---------------------------------------------------------------------------------------------------------


def _slice_of_json(raw: bytes, name: str) -> Slice:
    playlists = _parsed(raw, name).with_row_index(PLAYLIST_INDEX)
    _require(playlists, "pid", "playlist", name)
    _require(playlists, "tracks", "playlist", name)
    entries = playlists.select(PLAYLIST_INDEX, "tracks").explode("tracks", keep_nulls=False).unnest("tracks")
    _require(entries, TRACK_URI, "track", name)
    clipped = playlists.with_columns(pl.col(FOLLOWERS).clip(-_MOST_FOLLOWERS, _MOST_FOLLOWERS))
    said = conform(clipped.rename({"pid": PLAYLIST_ID, "name": TITLE}), SLICE_PLAYLISTS, name)
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
        return f"text that is no JSON or breaks off ({first_line(error)})"
    if isinstance(document, dict) and "playlists" not in document:
        return f"an object with the keys {', '.join(document) or 'none'}"
    if not isinstance(document, dict):
        return f"a JSON {type(document).__name__}"
    return f"playlists of another shape ({first_line(refused) if refused else 'null'})"


def _bytes(piece: Piece) -> bytes:
    with _reading(piece.name, "a slice that can be read to its end"):
        if piece.member:
            with zipfile.ZipFile(piece.path) as archive:
                return archive.read(piece.member)
        return gzip.decompress(piece.path.read_bytes()) if piece.path.suffix.lower() == ".gz" else piece.path.read_bytes()


def _slices(source: Path, files: Mapping[str, T]) -> list[T]:
    """The slices among `files`, numbers in their names in the order of numbers."""
    names = [name for name in files if _is_slice(name)]
    if not names:
        raise SegueError(f"{source}: expected slices such as mpd.slice.0-999.json, found {len(files)} files and no .json or .json.gz")
    return [files[name] for name in sorted(names, key=_natural)]


def _is_slice(name: str) -> bool:
    return name.lower().endswith((".json", ".json.gz")) and not re.search(r"(^|/)(\.|__MACOSX/)", name)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


# --- tables ---------------------------------------------------------------------------------------------------------


def _slice_of_table(table: pl.DataFrame, piece: Piece) -> Slice:
    if _LIST_TITLE not in table.columns and (_names_playlists(table) if piece.title_of_playlists is None else piece.title_of_playlists):
        table = table.rename({TITLE: _LIST_TITLE})
    titled = pl.col(_LIST_TITLE).first(ignore_nulls=True).fill_null("") if _LIST_TITLE in table.columns else pl.lit("")
    followed = pl.col(FOLLOWERS).fill_nan(None).max().clip(0, _MOST_FOLLOWERS).fill_null(0) if FOLLOWERS in table.columns else pl.lit(0)
    said = table.group_by(PLAYLIST_ID, maintain_order=True).agg(titled.alias(TITLE), followed.cast(pl.Int32).alias(FOLLOWERS))
    playlists = said.with_row_index(PLAYLIST_INDEX)
    entries = _with_milliseconds(table).join(
        playlists.select(PLAYLIST_INDEX, PLAYLIST_ID), on=PLAYLIST_ID, how="left", maintain_order="left"
    )
    order = [column for column in (POSITION, TIMESTAMP) if column in table.columns][:1]
    return Slice(said, _in_order(entries, order, piece.name))


def _names_playlists(table: pl.DataFrame) -> bool:
    """Whether the title is the playlists': it is one a playlist, although there are playlists of several tracks."""
    if TITLE not in table.columns:
        return False
    said = table.group_by(PLAYLIST_ID).agg(pl.col(TITLE).n_unique().alias("titles"), pl.col(TRACK_ID).n_unique().alias("tracks"))
    return table[TITLE].null_count() < table.height and bool((said["titles"] == 1).all() and (said["tracks"] > 1).any())


def _read_table(path: Path, names: Names, required: Sequence[str], rows: tuple[int, int] | None = None) -> pl.DataFrame:
    """The columns of `names` that the file has, under our names and each in its one reading; a cell of no reading is a SegueError."""
    chosen = _chosen(_header(path), names, required, path)
    with _reading(str(path), "a parquet table"):
        table = _columns(path, chosen, rows)
    if not table.height:
        raise SegueError(f"{path}: expected rows with {' and '.join(required)}, found none")
    table = pl.DataFrame([_read_column(path, table[theirs], ours, rows) for theirs, ours in chosen.items()])
    for column in required:
        if table[column].null_count():
            where = _where(path, table[column].is_null().arg_max() or 0, rows)
            raise SegueError(f"{path}: expected a {column} in every row, found {table[column].null_count()} without, the first in {where}")
    return table


def _columns_of_export(path: Path) -> dict[str, str]:
    """What `features.exportify` makes of a text table that names no playlists; empty for other files."""
    if not is_delimited(path) or not path.is_file() or PLAYLIST_ID in map(_plain, header_of(path)):
        return {}
    return columns_of_export(path)


def _read_export(path: Path, exported: Mapping[str, str]) -> pl.DataFrame:
    cells = read_text(path, list(exported))
    name = pl.Series([name_of_export(path)]).new_from_index(0, cells.height)
    known = [_read_column(path, cells[theirs], ours, None) for theirs, ours in exported.items()]
    return pl.DataFrame([name.alias(PLAYLIST_ID), name.alias(_LIST_TITLE), *known]).drop_nulls(TRACK_ID)


def _read_column(path: Path, column: pl.Series, ours: str, rows: tuple[int, int] | None) -> pl.Series:
    try:
        return read(column, _READINGS[ours]).alias(ours)
    except Misfit as misfit:
        where = _where(path, misfit.row, rows)
        raise SegueError(f"{path}: expected {misfit.expected} in the column {column.name}, found {misfit.value} in {where}") from misfit


def _where(path: Path, row: int, rows: tuple[int, int] | None) -> str:
    return f"row {row + 1 + (rows[0] if rows else 0)}" if _is_parquet(path) else f"line {line_of(path, row)}"


def _header(path: Path) -> list[str]:
    if not _is_parquet(path):
        return header_of(path)
    with _reading(str(path), "a parquet table"):
        return list(pl.read_parquet_schema(path))


def _chosen(found: Sequence[str], names: Names, required: Sequence[str], path: Path) -> dict[str, str]:
    """Per column of the file that is read, the name it gets; case, spaces and plurals such as `Artist Name(s)` do not count."""
    plain = {**{_plain(name): name for name in reversed(found)}, **{name: name for name in found}}
    first = {ours: next((plain[name] for name in theirs if name in plain), None) for ours, theirs in names.items()}
    missing = [column for column in required if first[column] is None]
    if missing:
        wanted = [name for column in missing for name in names[column]]
        near = [plain[close] for name in wanted for close in difflib.get_close_matches(name, [*plain], 1, 0.75)]
        meant = f". Is {near[0]} meant? Rename it" if near and near[0] not in first.values() else ""
        lacking = ", ".join(" or ".join(names[column]) for column in missing)
        raise SegueError(f"{path}: expected the columns {', '.join(required)}, found {', '.join(found)}: {lacking} missing{meant}")
    return {theirs: ours for ours, theirs in first.items() if theirs is not None}


def _plain(name: str) -> str:
    """`Track Name` -> `track_name`."""
    return re.sub(r"\W+", "_", name.strip().casefold().replace("(s)", "")).strip("_")


def _columns(path: Path, chosen: Mapping[str, str], rows: tuple[int, int] | None) -> pl.DataFrame:
    if not _is_parquet(path):
        return read_text(path, list(chosen))
    scan = pl.scan_parquet(path).select(list(chosen))
    return (scan.slice(*rows) if rows else scan).collect()


def _runs_of_playlists(path: Path) -> list[tuple[int, int]]:
    """(first row, number of rows) of parts of about _ROWS_AT_ONCE rows that cut no playlist in two."""
    chosen = _chosen(_header(path), _HELD, (PLAYLIST_ID, TRACK_ID), path)
    theirs = next(theirs for theirs, ours in chosen.items() if ours == PLAYLIST_ID)
    with _reading(str(path), "a parquet table"):
        ids = without_blanks(pl.read_parquet(path, columns=[theirs])[theirs])
    starts = np.append(0, ids[1:].ne_missing(ids[:-1]).arg_true().to_numpy() + 1)
    if len(starts) != ids.n_unique():
        return [(0, len(ids))]
    cuts = np.unique(starts[np.searchsorted(starts, np.arange(0, starts[-1] + 1, _ROWS_AT_ONCE))])
    return [(int(start), int(stop - start)) for start, stop in zip(cuts, [*cuts[1:], len(ids)], strict=True)]


def _with_milliseconds(table: pl.DataFrame) -> pl.DataFrame:
    if _SECONDS not in table.columns or DURATION in table.columns:
        return table
    return table.with_columns((pl.col(_SECONDS) * 1000).alias(DURATION))


def _with_year(table: pl.DataFrame) -> pl.DataFrame:
    if _RELEASED not in table.columns or "year" in table.columns:
        return table
    return table.rename({_RELEASED: "year"})


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
    return _is_parquet(path) or is_delimited(path)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


@contextmanager
def _reading(name: str, expected: str) -> Iterator[None]:
    """What a library says of a bad file becomes our one line; a file that may not be read stays an OSError."""
    try:
        yield
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise SegueError(f"{name}: expected {expected}, found something else or a part of it: {first_line(error)}") from error
    except pl.exceptions.PolarsError as error:
        raise SegueError(f"{name}: expected {expected}, found {first_line(error)}") from error
