"""One reading a column: cells as people's files have them -> one type.

Input: a column of a table somebody made, text or typed. Output: the same column in the one type of its reading, null where the
cell is blank. A cell that fits no reading is a Misfit, which says where and what, and is made into an error by whoever knows the file.
The good path is columnar: no Python object is made of a cell. Knows no file and no column's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

MOST_PLAYS = 1e9
_MOST_POSITION = 2**31 - 1
_EXACT = 2**53
"""Whole numbers up to here are exact as float64."""
_SHOWN = 60
_DAY = r"(\d{4}-\d{2}-\d{2})"
_ISO = rf"^{_DAY}(?:[Tt ](\d{{2}}:\d{{2}})(:\d{{2}}(?:[.,]\d+)?)?)? ?(Z|z|UTC|[+-]\d{{2}}(?::?\d{{2}})?)?$"
_DECIMAL_COMMA = r"^[+-]?(?:0,\d+|\d+,(?:\d{1,2}|\d{4,}))$"
_FIRST_QUOTED = r"""^\[\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")"""
_EPOCHS = ((1e11, 1_000_000), (1e14, 1_000))
"""(below this a number counts units, microseconds a unit): seconds, then milliseconds; greater ones are microseconds."""


@dataclass(frozen=True)
class Reading:
    """How a column is read."""

    expected: str
    """What fits, in words."""
    parse: Callable[[pl.Series], pl.Series]
    """A column without blanks and outer spaces -> its values, null where a cell does not fit."""


@dataclass(frozen=True)
class Misfit(Exception):
    """The first cell that fits no reading."""

    row: int
    """Counted from 0, without the header."""
    value: str
    expected: str


def read(column: pl.Series, reading: Reading) -> pl.Series:
    """The column's values, null where it is blank; Misfit for a cell that does not fit."""
    cells = without_blanks(column)
    values = reading.parse(cells)
    if values.null_count() != cells.null_count():
        row = (values.is_null() & cells.is_not_null()).arg_max() or 0
        raise Misfit(row, _shown(cells[row]), reading.expected)
    return values.alias(column.name)


def _shown(cell: object) -> str:
    words = " ".join(repr(cell.to_list() if isinstance(cell, pl.Series) else cell).split())
    return words if len(words) <= _SHOWN else words[:_SHOWN] + "…"


def without_blanks(column: pl.Series) -> pl.Series:
    """Text in one normal form (NFC), without outer spaces, null for nothing; other types as they are."""
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        return column
    text = column.str.strip_chars().str.normalize("NFC")
    return text.set(text == "", None) if (text == "").any() else text


def _as_text(cells: pl.Series) -> pl.Series:
    if cells.dtype.is_float():  # a column of whole numbers with gaps is one of floats in many a table
        whole = _as_whole(cells)
        return cells.cast(pl.String) if whole.null_count() > cells.null_count() else whole.cast(pl.String)
    if cells.dtype.is_nested():
        return _unfit(cells, pl.String())
    return cells.cast(pl.String)


def _as_first(cells: pl.Series) -> pl.Series:
    """The first of a list; of an empty one "", so that it is no misfit."""
    if isinstance(cells.dtype, pl.List):
        first = without_blanks(cells.list.eval(pl.element().cast(pl.String)).list.first())
    else:
        text = _as_text(cells)
        several = text.str.contains_any([";", "["])
        if not several.any():
            return text
        frame = text.alias("text").to_frame()
        quoted = pl.coalesce(pl.col("text").str.extract(_FIRST_QUOTED, 1), pl.col("text").str.extract(_FIRST_QUOTED, 2))
        unescaped = quoted.str.replace_all(r"\\(.)", "$1")
        parts = pl.col("text").str.split(";").list.eval(pl.element().str.strip_chars()).list.first()
        nothing = pl.when(pl.col("text").str.contains(r"^\[\s*\]$")).then(pl.lit(""))
        first = frame.select(pl.coalesce(nothing, unescaped, parts)).to_series()
    return first.fill_null("").set(cells.is_null(), None) if cells.null_count() or first.null_count() else first


def _as_whole(cells: pl.Series) -> pl.Series:
    """Int64."""
    if cells.dtype.is_integer():
        return cells.cast(pl.Int64, strict=False)
    if cells.dtype == pl.String:
        whole = cells.cast(pl.Int64, strict=False)
        if whole.null_count() == cells.null_count():
            return whole
        return whole.zip_with(whole.is_not_null(), _as_whole(cells.cast(pl.Float64, strict=False)))
    if cells.dtype.is_float():
        fits = (cells.is_finite() & (cells == cells.round()) & (cells.abs() < _EXACT)).fill_null(False)
        return cells.set(~fits, None).cast(pl.Int64)
    return _unfit(cells, pl.Int64())


def _as_position(cells: pl.Series) -> pl.Series:
    """Int32."""
    return _as_whole(cells).cast(pl.Int32, strict=False)


def _as_number(cells: pl.Series) -> pl.Series:
    """Float64; a decimal comma is a point, unless every comma of the column may part thousands."""
    if cells.dtype == pl.String:
        number = cells.cast(pl.Float64, strict=False)
        if number.null_count() == cells.null_count() or not cells.str.contains(_DECIMAL_COMMA).any():
            return number
        comma = cells.str.replace(r"^([+-]?\d+),(\d+)$", "$1.$2").cast(pl.Float64, strict=False)
        return number.zip_with(number.is_not_null(), comma)
    if cells.dtype.is_numeric() or cells.dtype == pl.Boolean:
        return cells.cast(pl.Float64)
    return _unfit(cells, pl.Float64())


def _as_plays(cells: pl.Series) -> pl.Series:
    number = _as_number(cells)
    return number.set(~(number.is_finite() & (number >= 0) & (number <= MOST_PLAYS)).fill_null(True), None)


def _as_scale(cells: pl.Series) -> pl.Series:
    """Float64; yes and no may be spelled."""
    if cells.dtype == pl.String:
        cells = cells.str.to_lowercase().replace({"true": "1", "false": "0"})
    return _as_number(cells)


def _as_year(cells: pl.Series) -> pl.Series:
    """Float64, of a year or a date."""
    if cells.dtype.is_nested():
        return _unfit(cells, pl.Float64())
    return cells.cast(pl.String).str.extract(r"^(\d{4})(?:\D|$)").cast(pl.Float64)


def _as_instant(cells: pl.Series) -> pl.Series:
    """Int64 microseconds since 1970."""
    if cells.dtype in (pl.Date, pl.Datetime):
        return cells.cast(pl.Datetime("us")).cast(pl.Int64)
    instants = _of_epoch(_as_number(cells))
    for spelled in (_of_iso, _of_words):
        if cells.dtype != pl.String or instants.null_count() == cells.null_count():
            break
        instants = instants.zip_with(instants.is_not_null(), spelled(cells))
    return instants


def _of_epoch(number: pl.Series) -> pl.Series:
    (seconds, per_second), (milliseconds, per_millisecond) = _EPOCHS
    size, name = number.abs(), pl.col(number.name)
    fits = (number.is_finite() & (size < 1e18)).fill_null(False)
    scale = pl.when(name.abs() < seconds).then(per_second).when(name.abs() < milliseconds).then(per_millisecond).otherwise(1)
    return number.set(~fits, None).to_frame().select((name * scale).round().cast(pl.Int64)).to_series()


def _of_iso(text: pl.Series) -> pl.Series:
    parts = text.alias("text").to_frame().select(pl.col("text").str.extract_groups(_ISO)).unnest("text")
    day, minute, second, offset = (pl.col(name) for name in parts.columns)
    local = pl.concat_str(day, pl.lit(" "), minute.fill_null("00:00"), second.fill_null(":00").str.replace(",", "."))
    sign = pl.when(offset.str.starts_with("-")).then(-1).otherwise(1)
    hours, minutes = (offset.str.extract(r"^[+-](\d{2}):?(\d{2})?", group).cast(pl.Int64).fill_null(0) for group in (1, 2))
    instant = local.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us").cast(pl.Int64)
    return parts.select((instant - sign * (hours * 60 + minutes) * 60_000_000).alias(text.name)).to_series()


def _of_words(text: pl.Series) -> pl.Series:
    """`05 Apr 2010, 11:59`, as the exporters of Last.fm write it."""
    plain = text.str.replace(",", "", literal=True)
    return plain.str.to_datetime("%d %b %Y %H:%M", strict=False, time_unit="us").cast(pl.Int64)


def _unfit(cells: pl.Series, dtype: pl.DataType) -> pl.Series:
    return pl.Series(cells.name, [None], dtype=dtype).new_from_index(0, len(cells))


TEXT = Reading("text or a whole number", _as_text)
FIRST_OF_LIST = Reading("text, or a list such as A;B or ['A', 'B']", _as_first)
PLACE = Reading(f"a whole number up to {_MOST_POSITION}", _as_position)
PLAY_COUNT = Reading(f"a number from 0 to {MOST_PLAYS:.0f}", _as_plays)
SCALE = Reading("a number", _as_scale)
YEAR = Reading("a year or a date such as 2020-01-02", _as_year)
INSTANT = Reading("seconds or milliseconds since 1970, a date such as 2020-01-02T03:04:05+01:00 or 05 Apr 2010, 11:59", _as_instant)
