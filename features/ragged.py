"""Ragged arrays: rows of different lengths, one after the other in a single array, with the places where each row begins.

Input: rows, or one array of values and offsets or lengths. Output: the rows again, one, some or all. Knows nothing of what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

Value = TypeVar("Value", bound=np.generic)
Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged(Generic[Value]):
    """`n` rows: row `i` is `values[offsets[i]:offsets[i + 1]]`. Values and rows are never copied unless it says so."""

    values: npt.NDArray[Value]
    offsets: Offsets
    """(n + 1,) int64, from 0 up to len(values), never falling; else ValueError."""

    def __post_init__(self) -> None:
        ends = self.offsets
        if ends.ndim != 1 or ends.dtype != np.int64 or not len(ends):
            raise ValueError(f"offsets: expected int64 (rows + 1,), found {ends.dtype} {ends.shape}")
        if ends[0] != 0 or ends[-1] != len(self.values):
            raise ValueError(f"offsets: expected 0 to {len(self.values)}, one past the last value, found {ends[0]} to {ends[-1]}")
        if (ends[1:] < ends[:-1]).any():
            raise ValueError(f"offsets: expected numbers that never fall, found a fall at row {int((ends[1:] < ends[:-1]).argmax())}")

    @overload
    @classmethod
    def of(cls, rows: Iterable[npt.ArrayLike]) -> Ragged[np.int32]: ...
    @overload
    @classmethod
    def of(cls, rows: Iterable[npt.ArrayLike], dtype: type[Value]) -> Ragged[Value]: ...
    @classmethod
    def of(cls, rows: Iterable[npt.ArrayLike], dtype: type[Any] = np.int32) -> Ragged[Any]:
        """A copy of these rows, as `dtype`."""
        arrays = [np.asarray(row, dtype) for row in rows]
        values = np.concatenate(arrays) if arrays else np.empty(0, dtype)
        return Ragged(values, offsets_of([len(row) for row in arrays]))

    def __len__(self) -> int:
        """How many rows."""
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        return f"Ragged({len(self):,} rows, {len(self.values):,} values of {self.values.dtype})"

    def row(self, i: int) -> npt.NDArray[Value]:
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def part(self, start: int, stop: int) -> Ragged[Value]:
        """The rows from `start` to before `stop`, or to the end where there are fewer."""
        ends = self.offsets[start : stop + 1]
        return Ragged(self.values[ends[0] : ends[-1]], ends - ends[0])

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Ragged[Value]:
        """A copy of the rows `rows` (m,), in that order."""
        return Ragged(self.values[self.places(rows)], offsets_of(self.lengths()[rows]))

    def places(self, rows: npt.NDArray[np.integer[Any]]) -> Offsets:
        """Where in `values`, or in any array beside it, the values of `rows` (m,) are, row after row."""
        lengths = self.lengths()[rows]
        offsets = offsets_of(lengths)
        places: Offsets = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return places

    def lengths(self) -> Offsets:
        """(n,) values in each row."""
        return np.diff(self.offsets)

    def owners(self) -> Offsets:
        """(len(values),) the row each value belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths())


def offsets_of(lengths: npt.ArrayLike) -> Offsets:
    """(n + 1,) where rows of these `lengths` (n,) begin, and the end of the last."""
    lengths = np.asarray(lengths, np.int64)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
