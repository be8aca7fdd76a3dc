"""Parquet tables, read only if they are what the reader expects.

Input: a file, the columns and types its reader wants and how many rows. Output: the table. Rows and types are held against what is
wanted before a row is read: a small file may claim to hold any number of them. Knows not what a column means.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl

from features.domain import SegueError
from features.reading import RETRAIN, reading


def read_table(
    path: Path, schema: Mapping[str, pl.DataType], rows: int | None, complete: Collection[str] = (), repair: str = RETRAIN
) -> pl.DataFrame:
    """The columns of `schema`, in its order and types, of a table of so many rows (None: any number).

    SegueError for anything else, for a null in a column that is `complete`, and for a number that is NaN or infinite.
    """
    with reading(path, f"a table of {', '.join(schema)}", repair):
        found = pl.read_parquet_schema(path)
        if {name: found.get(name) for name in schema} != dict(schema):
            raise SegueError(f"{path}: expected the columns {_columns(schema)}, found {_columns(found)}. {repair}")
        count = int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
        if rows not in (None, count):
            raise SegueError(f"{path}: expected {rows:,} rows, found {count:,}. {repair}")
        table = pl.read_parquet(path, columns=list(schema), glob=False)
    for name, column in zip(schema, table, strict=True):
        if name in complete and column.null_count():
            raise SegueError(f"{path}: expected a value of {name} in every row, found {column.null_count():,} nulls. {repair}")
        if column.dtype.is_float() and not column.is_finite().all():
            wrong = int((~column.is_finite().fill_null(True)).arg_max() or 0)
            raise SegueError(f"{path}: expected finite numbers or none as {name}, found {column[wrong]} in row {wrong:,}. {repair}")
    return table


def _columns(schema: Mapping[str, pl.DataType]) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in schema.items())
