"""Plain arrays on disk: written without pickle, read back only if they are what the reader expects.

Input: a .npy file and the specification its reader wants (`features.arrays`). Output: the array, mapped into memory if wanted. A
damaged or foreign file is a SegueError, never a crash. A ragged array is two files. Knows nothing of what the numbers mean.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from features.arrays import ArraySpec, form
from features.arrays import offsets as offsets_spec
from features.domain import SegueError
from features.ragged import Ragged
from features.reading import RETRAIN, reading


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes a .npy in C order; an array of objects is a SegueError, for only a pickle could hold it."""
    if array.dtype.hasobject:
        raise SegueError(f"{path}: expected an array of numbers, found {array.dtype}. Only plain formats are saved. Convert it first.")
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.asarray(array, order="C"), allow_pickle=False)


def load_array(path: Path, spec: ArraySpec, *, mmap: bool = False) -> np.ndarray:
    """The array of a .npy, every number of it as `spec` says; read-only memory when `mmap`.

    The header is held against `spec` and the file's size before anything else is read, so that a damaged or foreign file is a
    SegueError and never a crash or a huge allocation.
    """
    with reading(path, f"a .npy of {spec}"):
        header = _npy_header(path)
        if not spec.admits(header.dtype, header.shape):
            raise SegueError(f"{path}: expected {spec}, found {form(header.dtype, header.shape)}. {RETRAIN}")
        if header.size != (found := path.stat().st_size):
            raise SegueError(f"{path}: expected {header.size} bytes, found {found}. {RETRAIN}")
        array: np.ndarray = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    array = np.asarray(array)  # numpy's own class of mapped arrays makes every slice slow
    spec.require(array, path)
    return array


def save_ragged(values: Path, offsets: Path, ragged: Ragged[Any]) -> None:
    """Writes its two arrays as a .npy each."""
    save_array(values, ragged.values)
    save_array(offsets, ragged.offsets)


def load_ragged(
    values: Path, offsets: Path, spec: ArraySpec, rows: int | None, longest: int | None = None, *, mmap: bool = False
) -> Ragged[Any]:
    """What `save_ragged` wrote, if it has so many rows (None: any number), none longer than `longest`, and its values are as `spec`,
    whose length does not count; SegueError where offsets and values do not fit together."""
    ends = load_array(offsets, offsets_spec(rows), mmap=mmap)
    found = load_array(values, replace(spec, shape=(int(ends[-1]) if len(ends) else 0,)), mmap=mmap)
    try:
        ragged = Ragged(found, ends)
    except ValueError as error:
        raise SegueError(f"{offsets}: {error}. {RETRAIN}") from error
    if longest is not None and (most := int(ragged.lengths().max(initial=0))) > longest:
        raise SegueError(f"{offsets}: expected rows of at most {longest:,} values, found {most:,}. {RETRAIN}")
    return ragged


def read_only(array: np.ndarray) -> np.ndarray:
    """`array`, not to be written through: a loop that is compiled for one is not compiled again for an array of this process,
    one mapped from a file and one that came from elsewhere."""
    view = array.view()
    view.flags.writeable = False
    return view


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int
    """Bytes the whole file must have."""


def _npy_header(path: Path) -> _Header:
    """A damaged header fails in numpy's parser in many ways; of them no lack of memory is the machine's."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        try:
            shape, _, dtype = read(file)
        except MemoryError as error:
            raise ValueError("a header that is nested too deeply") from error
        return _Header(dtype, shape, file.tell() + math.prod(shape) * dtype.itemsize)
