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
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import dropwhile, islice
from pathlib import Path

import polars as pl

from features.domain import SegueError
from features.reading import first_line

ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_SEPARATORS = ",;\t"
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever fails in reading damaged or foreign bytes is one SegueError; what the machine refuses stays an OSError."""
    try:
        yield
    except UnicodeDecodeError as error:
        found = f"another encoding than UTF-8 or UTF-16 ({error.reason} at byte {error.start})"
    except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error) as error:
        found = f"something else or a part of it: {error}"
    except (pl.exceptions.PolarsError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        with _readable(path):
            found = _fault(path) or first_line(error)
    else:
        return
    raise SegueError(f"{path}: expected a CSV table, found {found}")


def is_delimited(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def header_of(path: Path) -> list[str]:
    """The names in the first line; SegueError for an empty file."""
    with _readable(path):
        return next(csv.reader([_first_line(path)], delimiter=separator_of(path)), [])


def separator_of(path: Path) -> str:
    """The one of comma, semicolon and tab that the first line has most of, outside quotes; the comma when it has none."""
    with _readable(path):
        bare = re.sub(r'"[^"]*"', "", _first_line(path))
    return max(_SEPARATORS, key=bare.count)


def row_of(path: Path, row: int) -> list[str]:
    """The cells of a row, counted from 0; none past the end."""
    with _readable(path), _opened(path) as file:
        rows = csv.reader(file, delimiter=separator_of(path))
        return next(islice((cells for cells in rows if cells), row + 1, None), [])


def read_text(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """The named columns, all text, in the file's order; an empty cell is null."""
    with _readable(path):
        source = _bytes(path).decode("utf-16").encode() if _encoding(path) == "utf-16" else path
        return pl.read_csv(source, columns=list(columns), separator=separator_of(path), infer_schema=False)


def line_of(path: Path, row: int) -> int:
    """The line, counted from 1 with the header, where row `row`, counted from 0, ends; slow, for errors."""
    with _readable(path), _opened(path) as file:
        rows = csv.reader(file, delimiter=separator_of(path))
        next(islice(dropwhile(lambda cells: not cells, rows), row + 1, None), None)
        return rows.line_num


def _fault(path: Path) -> str:
    """What is wrong with a file that could not be read; slow."""
    separator, width = separator_of(path), len(header_of(path))
    if line := _loose_quote(path, separator):
        return f'line {line} with a quote (") that does not enclose a whole cell: write the cell in quotes and its quotes twice'
    with _opened(path) as file:
        for cells in (rows := csv.reader(file, delimiter=separator)):
            if len(cells) > width:
                return f"line {rows.line_num} with {len(cells)} cells where the header has {width}, parted by {_NAMES[separator]}"
    return ""


def _loose_quote(path: Path, separator: str) -> int:
    """The first line with a quote that neither begins nor ends a cell nor stands twice in one, or that nothing closes; 0 for none."""
    closing = re.compile(rf'^(?:[^"]|"")*"(?=$|{separator})')
    whole = re.compile(rf'(^|{separator})"(?:[^"]|"")*"(?=$|{separator})')
    opening = re.compile(rf'(?:^|{separator})"(?:[^"]|"")*$')
    inside, began = False, 0
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            rest = line.rstrip("\r\n")
            if inside and not (end := closing.search(rest)):
                continue
            rest = whole.sub(r"\1", rest[end.end() :] if inside and end else rest)
            inside, began = (begin := opening.search(rest)) is not None, number
            if '"' in (rest[: begin.start()] if begin else rest):
                return number
    return began if inside else 0


def _first_line(path: Path) -> str:
    with _opened(path) as file:
        for line in file:
            if line.strip():
                return line.rstrip("\r\n")
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
