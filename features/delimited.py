"""Text tables as programs save them -> columns of text.

Input: a `.csv` or `.tsv` file, plain or gzipped, in UTF-8 or UTF-16, its cells parted by commas, semicolons or tabs: found out from
its first line. Output: its header, or columns of it as text. A file that breaks off or has a row of another width is one SegueError
with the line as an editor counts. Knows no column's meaning.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections.abc import Sequence
from itertools import dropwhile, islice
from pathlib import Path

import polars as pl

from features.domain import SegueError

ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_SEPARATORS = ",;\t"
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def is_delimited(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def header_of(path: Path) -> list[str]:
    """The names in the first line; SegueError for an empty file."""
    return next(csv.reader([_first_line(path)], delimiter=separator_of(path)), [])


def separator_of(path: Path) -> str:
    """The one of comma, semicolon and tab that the first line has most of, outside quotes; the comma when it has none."""
    bare = re.sub(r'"[^"]*"', "", _first_line(path))
    return max(_SEPARATORS, key=bare.count)


def row_of(path: Path, row: int) -> list[str]:
    """The cells of a row, counted from 0; none past the end."""
    with _opened(path) as file:
        rows = csv.reader(file, delimiter=separator_of(path))
        return next(islice((cells for cells in rows if cells), row + 1, None), [])


def read_text(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """The named columns, all text, in the file's order; an empty cell is null."""
    source = _bytes(path).decode("utf-16").encode() if _encoding(path) == "utf-16" else path
    try:
        return pl.read_csv(source, columns=list(columns), separator=separator_of(path), infer_schema=False)
    except (pl.exceptions.PolarsError, EOFError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise
        raise SegueError(f"{path}: expected a CSV table, found {_fault(path) or str(error).splitlines()[0]}") from error


def line_of(path: Path, row: int) -> int:
    """The line, counted from 1 with the header, where row `row`, counted from 0, ends; slow, for errors."""
    with _opened(path) as file:
        rows = csv.reader(file, delimiter=separator_of(path))
        next(islice(dropwhile(lambda cells: not cells, rows), row + 1, None), None)
        return rows.line_num


def _fault(path: Path) -> str:
    """What is wrong with a file that could not be read; slow."""
    separator, width = separator_of(path), len(header_of(path))
    try:
        if line := _loose_quote(path, separator):
            return f'line {line} with a quote (") inside a cell that is not quoted: write the cell in quotes and its quotes twice'
        with _opened(path) as file:
            for cells in (rows := csv.reader(file, delimiter=separator)):
                if len(cells) > width:
                    return f"line {rows.line_num} with {len(cells)} cells where the header has {width}, parted by {_NAMES[separator]}"
    except UnicodeDecodeError as error:
        return f"another encoding than UTF-8 or UTF-16 ({error.reason} at byte {error.start})"
    except (csv.Error, EOFError, gzip.BadGzipFile) as error:
        return str(error)
    return ""


def _loose_quote(path: Path, separator: str) -> int:
    """The first line with a quote that neither begins nor ends a cell nor stands twice in one; 0 when there is none."""
    closing = re.compile(rf'^(?:[^"]|"")*"(?=$|{separator})')
    whole = re.compile(rf'(^|{separator})"(?:[^"]|"")*"(?=$|{separator})')
    opening = re.compile(rf'(?:^|{separator})"(?:[^"]|"")*$')
    inside = False
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            rest = line.rstrip("\r\n")
            if inside and not (end := closing.search(rest)):
                continue
            rest = whole.sub(r"\1", rest[end.end() :] if inside and end else rest)
            inside = (begin := opening.search(rest)) is not None
            if '"' in (rest[: begin.start()] if begin else rest):
                return number
    return 0


def _first_line(path: Path) -> str:
    try:
        with _opened(path) as file:
            for line in file:
                if line.strip():
                    return line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise SegueError(f"{path}: expected a CSV table, found another encoding than UTF-8 or UTF-16 ({error.reason})") from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise SegueError(f"{path}: expected a CSV table, found something else or a part of it: {error}") from error
    raise SegueError(f"{path}: expected a CSV table, found an empty file")


def _opened(path: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(_raw(path), encoding=_encoding(path), newline="")


def _raw(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def _encoding(path: Path) -> str:
    with _raw(path) as file:
        return "utf-16" if file.read(2) in _WIDE else "utf-8-sig"


def _bytes(path: Path) -> bytes:
    with _raw(path) as file:
        return file.read()
