"""Files changed on purpose, as an attacker, a wrong writer or a failing disk would: by kind of file, from a seed.

Input: a folder, the names of its files that may be changed, and a source of random choices. Output: one file changed in place, and what
was done to it. Whether sums and manifests are made to fit the change is the caller's business. Knows no part of a model.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

Change = Callable[[Path, random.Random], None]
Answer = Any
"""What goes through JSON."""
DEEP = 100_000
"""Levels of what is nested too deeply."""


class NotApplicable(Exception):
    """This kind of change does nothing to this file."""


@dataclass(frozen=True)
class Mutation:
    """What was done."""

    file: str
    kind: str
    plausible: bool
    """Whether what is left may be what somebody's training wrote, so that another answer is right. The others must be noticed."""

    def __str__(self) -> str:
        return f"{self.file}: {self.kind}"


@dataclass(frozen=True)
class Subject:
    """What is changed, and asked."""

    folder: Path
    """Every mutant is a copy of it."""
    change: Callable[[Path, random.Random], Mutation]
    """Changes one thing in such a copy."""
    ask: Callable[[Path], Answer]
    """What becomes of such a copy."""
    warm: Callable[[], None] = lambda: None
    """Has what the trials need in this process, without a thread of polars'."""


def mutate(folder: Path, names: Sequence[str], draw: random.Random) -> Mutation:
    """Changes one of the files `names` of `folder`; a file that has other links is first made one of its own."""
    while True:
        name = draw.choice(names)
        path = folder / name
        kinds = {**BYTES, **OF_SUFFIX.get(path.suffix, {})}
        # what breaks any file is soon told; most changes are of the file's own kind
        kind = draw.choice(list(OF_SUFFIX.get(path.suffix, kinds) if draw.random() < 0.8 else BYTES))
        change, plausible = kinds[kind]
        before = path.read_bytes()
        path.unlink()
        path.write_bytes(before)
        try:
            change(path, draw)
        except NotApplicable:
            continue
        if path.read_bytes() != before:
            return Mutation(name, kind, plausible)


# --- any file ---


def _cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(max(len(content), 1))])


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if not content:
        raise NotApplicable
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _noise(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = draw.randrange(max(len(content), 1))
    length = min(len(content) - start, draw.randrange(1, 64))
    content[start : start + length] = draw.randbytes(length)
    path.write_bytes(content)


BYTES: Mapping[str, tuple[Change, bool]] = {
    "cut": (_cut, False),
    "empty": (lambda path, _: _write(path, b""), False),
    "zeros": (lambda path, _: _write(path, bytes(path.stat().st_size)), False),
    "twice": (lambda path, _: _write(path, path.read_bytes() * 2), False),
    "a bit flipped": (_flip, True),
    "noise": (_noise, True),
}


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


# --- arrays ---

ArrayChange = Callable[[np.ndarray, random.Random], np.ndarray]


def _put(value: float) -> ArrayChange:
    """`value` at one to five places; of whole numbers the nearest there is."""

    def change(array: np.ndarray, draw: random.Random) -> np.ndarray:
        if not array.size:
            raise NotApplicable
        if array.dtype.kind in "iu":
            if not np.isfinite(value):
                raise NotApplicable
            limits = np.iinfo(array.dtype)
            if limits.max == np.iinfo(np.int8).max and abs(value) > limits.max:
                raise NotApplicable  # the nearest there is is an ordinary one
            array.flat[[draw.randrange(array.size) for _ in range(draw.randint(1, 5))]] = int(max(limits.min, min(limits.max, value)))
        else:
            with np.errstate(over="ignore"):
                array.flat[[draw.randrange(array.size) for _ in range(draw.randint(1, 5))]] = np.array(value).astype(array.dtype)
        return array

    return change


def _just_outside(array: np.ndarray, draw: random.Random) -> np.ndarray:
    """One more than the largest there is."""
    if not array.size or array.dtype.kind not in "iu" or array.max() == np.iinfo(array.dtype).max:
        raise NotApplicable
    array.flat[draw.randrange(array.size)] = array.max() + 1
    return array


def _alternating(array: np.ndarray, draw: random.Random) -> np.ndarray:
    if array.ndim != 1 or array.size < 3:
        raise NotApplicable
    array[1:-1:2], array[2:-1:2] = array.min(), array.max()
    return array


def _copied(array: np.ndarray, draw: random.Random) -> np.ndarray:
    if not array.size:
        raise NotApplicable
    array.flat[draw.randrange(array.size)] = array.flat[draw.randrange(array.size)]
    return array


def _filled(array: np.ndarray, draw: random.Random) -> np.ndarray:
    if not array.size:
        raise NotApplicable
    array[...] = array.flat[draw.randrange(array.size)]
    return array


def _shuffled(array: np.ndarray, draw: random.Random) -> np.ndarray:
    return np.random.default_rng(draw.randrange(2**31)).permutation(array.ravel()).reshape(array.shape)


def _of_another_type(array: np.ndarray, draw: random.Random) -> np.ndarray:
    others = [one for one in ("i1", "i2", "i4", "i8", "u4", "f2", "f4", "f8", ">f4", ">i4", "?", "c8") if np.dtype(one) != array.dtype]
    with np.errstate(all="ignore"):
        return array.astype(draw.choice(others))


def _in_fortran_order(array: np.ndarray, draw: random.Random) -> np.ndarray:
    if array.ndim < 2 or min(array.shape) < 2:
        raise NotApplicable
    return np.asfortranarray(array)


ARRAYS: Mapping[str, tuple[ArrayChange, bool]] = {
    "NaN": (_put(np.nan), False),
    "inf": (_put(np.inf), False),
    "-inf": (_put(-np.inf), False),
    "1e300": (_put(1e300), False),
    "-1e300": (_put(-1e300), False),
    "1e30": (_put(1e30), False),
    "-1": (_put(-1), True),
    "-7": (_put(-7), True),
    "1": (_put(1), True),
    "0": (_put(0), True),
    "the largest and one": (_just_outside, True),
    "alternating": (_alternating, True),
    "copied within": (_copied, True),
    "all alike": (_filled, True),
    "shuffled": (_shuffled, True),
    "backwards": (lambda array, _: array[::-1].copy(), True),
    "other weights": (lambda array, _: (array * 1.25 + 1).astype(array.dtype), True),
    "shorter": (lambda array, _: array[:-1], False),
    "longer": (lambda array, _: np.concatenate([array, array[-1:]]), False),
    "no rows": (lambda array, _: array[:0], False),
    "one axis more": (lambda array, _: array[None], False),
    "flat": (lambda array, _: array.reshape(-1), False),
    "of another type": (_of_another_type, False),
    "in Fortran order": (_in_fortran_order, False),
}


def _of_npy(change: ArrayChange) -> Change:
    def changed(path: Path, draw: random.Random) -> None:
        np.save(path, change(np.load(path), draw))

    return changed


def _of_words(change: ArrayChange) -> Change:
    """Of a file without a head, as whole numbers of four bytes."""

    def changed(path: Path, draw: random.Random) -> None:
        change(np.fromfile(path, np.int32), draw).astype(np.int32).tofile(path)

    return changed


def _of_tensors(change: ArrayChange) -> Change:
    def changed(path: Path, draw: random.Random) -> None:
        tensors = load_file(path)
        name = draw.choice(sorted(tensors))
        found = change(tensors[name], draw)
        if found.dtype.byteorder == ">":
            raise NotApplicable
        save_file({**tensors, name: np.ascontiguousarray(found)}, path)

    return changed


def _renamed_tensor(path: Path, draw: random.Random) -> None:
    tensors = load_file(path)
    name = draw.choice(sorted(tensors))
    tensors[f"{name}x"] = tensors.pop(name)
    save_file(tensors, path)


# --- JSON and text ---


class _Raw(str):
    """Text that stands in a JSON as it is."""


VALUES: Mapping[str, tuple[Any, bool]] = {
    "NaN": (_Raw("NaN"), False),
    "Infinity": (_Raw("-Infinity"), False),
    "1e999": (_Raw("1e999"), False),
    "nested lists": (_Raw("[" * DEEP + "]" * DEEP), False),
    "nested objects": (_Raw('{"a":' * 200 + "1" + "}" * 200), False),
    "a number of 5,000 digits": (_Raw("9" * 5_000), False),
    "1e300": (1e300, True),
    "10**30": (10**30, True),
    "2**31 - 1": (2**31 - 1, True),
    "-1": (-1, True),
    "0": (0, True),
    "1": (1, True),
    "0.5": (0.5, True),
    "null": (None, True),
    "true": (True, True),
    "an empty list": ([], True),
    "an empty object": ({}, True),
    "no text": ("", True),
    "a way out": ("../../../tmp/x", True),
    "a lone surrogate": (_Raw('"\\ud800"'), True),
}


def _json_value(value: Any) -> Change:
    def changed(path: Path, draw: random.Random) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        holder, key = draw.choice(_places(content))
        mark = "a place that no file has"
        holder[key] = mark if isinstance(value, _Raw) else value
        path.write_text(json.dumps(content, indent=1).replace(json.dumps(mark), str(value)), encoding="utf-8")

    return changed


def _json_key(path: Path, draw: random.Random) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    holder, key = draw.choice(_places(content))
    if not isinstance(holder, dict):
        raise NotApplicable
    value = holder.pop(key)
    if (new := draw.choice([None, f"{key}x", "../x", "", "x" * 300])) is not None:
        holder[new] = value
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Every container below `content` with a key of it."""
    found: list[tuple[Any, Any]] = []
    for key in list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        found += [(content, key), *_places(content[key])]
    return found


WORDS = ("nan", "inf", "-inf", "1e999", "1e300", "-1", "-2", "0", "0.5", "1", "99999", "2147483647", "4294967296", "x", "")


def _token(path: Path, draw: random.Random) -> None:
    """One word of one line becomes a number that should not be there, is left out or stands there twice."""
    lines = path.read_text(encoding="utf-8").split("\n")
    place = draw.choice([i for i, line in enumerate(lines) if "=" in line])
    name, _, words = lines[place].partition("=")
    tokens = words.split(" ")
    where = draw.randrange(len(tokens))
    tokens[where : where + 1] = draw.choice([[], [tokens[where]] * 2, *([word] for word in WORDS)])
    lines[place] = f"{name}={' '.join(tokens)}"
    path.write_text("\n".join(lines), encoding="utf-8")


def _line(path: Path, draw: random.Random) -> None:
    """A line is left out, stands there twice, or changes places with another."""
    lines = path.read_text(encoding="utf-8").split("\n")
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    match draw.randrange(3):
        case 0:
            lines.pop(one)
        case 1:
            lines.insert(other, lines[one])
        case _:
            lines[one], lines[other] = lines[other], lines[one]
    path.write_text("\n".join(lines), encoding="utf-8")


# --- tables ---

TableChange = Callable[[pl.DataFrame, random.Random], pl.DataFrame]


def _cell(value: Any) -> TableChange:
    """In one row of one column whose type can hold it."""

    def changed(table: pl.DataFrame, draw: random.Random) -> pl.DataFrame:
        names = [name for name, dtype in table.schema.items() if value is None or dtype.is_float() == isinstance(value, float)]
        names = [name for name in names if not isinstance(value, str) or table.schema[name] == pl.String]
        if not names or not table.height:
            raise NotApplicable
        name, row = draw.choice(names), draw.randrange(table.height)
        values = table[name].to_list()
        values[row] = value
        return table.with_columns(pl.Series(name, values, dtype=table.schema[name]))

    return changed


def _of_another_column_type(table: pl.DataFrame, draw: random.Random) -> pl.DataFrame:
    name = draw.choice(table.columns)
    return table.with_columns(pl.col(name).cast(pl.String if table.schema[name] != pl.String else pl.Binary))


TABLES: Mapping[str, tuple[TableChange, bool]] = {
    "null": (_cell(None), True),
    "NaN": (_cell(float("nan")), False),
    "inf": (_cell(float("inf")), False),
    "1e30": (_cell(1e30), True),
    "no text": (_cell(""), True),
    "a title like markup": (_cell("[/x] \x1b[2J \ud7ff"), True),
    "rows in another order": (lambda table, draw: table.sample(fraction=1, shuffle=True, seed=draw.randrange(2**31)), True),
    "the first row twice": (lambda table, _: pl.concat([table[:1], table[:-1]]), True),
    "a row less": (lambda table, _: table[:-1], False),
    "a row more": (lambda table, _: pl.concat([table, table[-1:]]), False),
    "no rows": (lambda table, _: table[:0], False),
    "a million rows": (lambda table, _: pl.concat([table[:1]] * 1_000_000, rechunk=True), False),
    "a column less": (lambda table, draw: table.drop(draw.choice(table.columns)), False),
    "a column of another type": (_of_another_column_type, False),
}


def _of_table(change: TableChange) -> Change:
    def changed(path: Path, draw: random.Random) -> None:
        change(pl.read_parquet(path, memory_map=False), draw).write_parquet(path)

    return changed


OF_WORDS = ("1e300", "-1e300", "-1", "-7", "1", "0", "copied within", "shuffled", "backwards")
OF_SUFFIX: Mapping[str, Mapping[str, tuple[Change, bool]]] = {
    ".npy": {kind: (_of_npy(change), plausible) for kind, (change, plausible) in ARRAYS.items()},
    ".ann": {
        kind: (_of_words(ARRAYS[kind][0]), True)
        for kind in ("1e300", "-1e300", "-1", "-7", "1", "0", "copied within", "shuffled", "backwards")
    },
    ".safetensors": {
        **{kind: (_of_tensors(change), plausible) for kind, (change, plausible) in ARRAYS.items()},
        "another name": (_renamed_tensor, False),
    },
    ".json": {**{kind: (_json_value(value), plausible) for kind, (value, plausible) in VALUES.items()}, "a key": (_json_key, True)},
    ".txt": {"a word": (_token, True), "a line": (_line, True)},
    ".parquet": {kind: (_of_table(change), plausible) for kind, (change, plausible) in TABLES.items()},
}
"""By the ending of a file: kinds of changes, and whether what they leave is plausible."""
