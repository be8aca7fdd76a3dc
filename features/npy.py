"""Plain arrays on disk: written without pickle, read back only if they are what the reader expects.

Input: a .npy file and the dtype and shape its reader wants. Output: the array, mapped into memory if wanted. A damaged or
foreign file is a SegueError, never a crash. A ragged array is two files. Knows nothing of what the numbers mean.
"""

from __future__ import annotations

import math
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from features.domain import SegueError
from features.ragged import Ragged

RETRAIN = "The artifact was changed or cut short after it was written. Copy it again or run `segue train`."


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes a .npy in C order; an array of objects is a SegueError, for only a pickle could hold it."""
    if array.dtype.hasobject:
        raise SegueError(f"{path}: expected an array of numbers, found {array.dtype}. Only plain formats are saved. Convert it first.")
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.asarray(array, order="C"), allow_pickle=False)


def load_array(path: Path, *, dtype: np.dtype[Any] | type, shape: tuple[int | None, ...], mmap: bool = False) -> np.ndarray:
    """The array of a .npy, read-only memory when `mmap`; None in `shape` admits any length.

    The header is held against `dtype`, `shape` and the file's size before anything else is read, so that a damaged or
    foreign file is a SegueError and never a crash or a huge allocation.
    """
    wanted = _form(np.dtype(dtype), shape)
    try:
        found_shape, found_dtype, size = _npy_header(path)
    except (OSError, ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError) as error:
        raise SegueError(f"{path}: expected a .npy of {wanted}, found {error or type(error).__name__}. {RETRAIN}") from error
    fits = len(shape) == len(found_shape) and all(want in (None, have) for want, have in zip(shape, found_shape, strict=True))
    if found_dtype != np.dtype(dtype) or not fits:
        raise SegueError(f"{path}: expected {wanted}, found {_form(found_dtype, found_shape)}. {RETRAIN}")
    if size != path.stat().st_size:
        raise SegueError(f"{path}: expected {size} bytes, found {path.stat().st_size}. {RETRAIN}")
    try:
        array: np.ndarray = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SegueError(f"{path}: expected a .npy of {wanted}, found {error}. {RETRAIN}") from error
    return np.asarray(array)  # numpy's own class of mapped arrays makes every slice slow


def save_ragged(values: Path, offsets: Path, ragged: Ragged[Any]) -> None:
    """Writes its two arrays as a .npy each."""
    save_array(values, ragged.values)
    save_array(offsets, ragged.offsets)


def load_ragged(values: Path, offsets: Path, *, dtype: np.dtype[Any] | type, rows: int, mmap: bool = False) -> Ragged[Any]:
    """What `save_ragged` wrote, if it has so many rows; SegueError where offsets and values do not fit together."""
    ends = load_array(offsets, dtype=np.int64, shape=(rows + 1,), mmap=mmap)
    found = load_array(values, dtype=dtype, shape=(int(ends[-1]),), mmap=mmap)
    try:
        return Ragged(found, ends)
    except ValueError as error:
        raise SegueError(f"{offsets}: {error}. {RETRAIN}") from error


def read_only(array: np.ndarray) -> np.ndarray:
    """`array`, not to be written through: a loop that is compiled for one is not compiled again for an array of this process,
    one mapped from a file and one that came from elsewhere."""
    view = array.view()
    view.flags.writeable = False
    return view


def _npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype, and the size in bytes the whole file must have. A damaged header fails in numpy's parser in many ways."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        return shape, dtype, file.tell() + math.prod(shape) * dtype.itemsize


def _form(dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> str:
    return f"{dtype} ({', '.join('any' if length is None else str(length) for length in shape)})"
