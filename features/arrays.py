"""Specifications of arrays: the one check that every array read from disk passes.

Input: an array, perhaps mapped into memory, and its specification: type, shape, range, order. Output: nothing, or one SegueError
that names the place of the first number that does not fit. The compiled loops index by what they read and check nothing, so
every array is specified where its part is opened, and held against that once, a block at a time: a mapped array stays mapped.
Knows no file format, and not what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from features.domain import SegueError
from features.reading import RETRAIN

BLOCK = 1 << 18
"""Numbers looked at together: they stay in a core's own cache for the second look."""
LARGEST = 1e15
"""Of floating-point numbers, either side of 0: what is larger overflows where vectors of it are multiplied and added up."""
MOST_ROWS = 2**31 - 1
"""Rows, columns and tracks are numbered by int32."""
Order = Literal["any", "rising", "falling", "distinct"]

Shape = tuple[int | None, ...]
"""None admits any length."""


@dataclass(frozen=True)
class ArraySpec:
    """What one array must be."""

    dtype: np.dtype[Any] | type
    shape: Shape
    low: float | None = None
    """The least number admitted; None: any whole number, or -LARGEST."""
    high: float | None = None
    """The largest number admitted; None: any whole number, or LARGEST."""
    order: Order = "any"
    """Of the numbers in the order of memory. rising: never falling; distinct: none twice, which needs `low` and `high`."""

    def __str__(self) -> str:
        return form(self.dtype, self.shape)

    def admits(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Whether an array of this form is one, whatever its numbers."""
        fits = len(shape) == len(self.shape) and all(want in (None, have) for want, have in zip(self.shape, shape, strict=True))
        return fits and dtype == np.dtype(self.dtype)

    def require(self, array: np.ndarray, name: object, repair: str = RETRAIN) -> None:
        """SegueError, which begins with `name`, where `array` is anything else. Reads every number once, in blocks."""
        if not self.admits(array.dtype, array.shape) or not array.flags.c_contiguous:
            order = "" if array.flags.c_contiguous else ", not in C order"
            raise SegueError(f"{name}: expected {self}, found {form(array.dtype, array.shape)}{order}. {repair}")
        flat, (low, high) = array.reshape(-1), self._range()
        in_range = _first_outside, f"numbers from {_said(low)} to {_said(high)}"
        for first_wrong, expected in (in_range, *_IN_ORDER[self.order]):
            if (place := first_wrong(flat, low, high)) is not None:
                raise SegueError(f"{name}: expected {expected}, found {flat[place]} at place {place:,}. {repair}")

    def _range(self) -> tuple[Any, Any]:
        of_type = (np.iinfo(self.dtype).min, np.iinfo(self.dtype).max) if np.dtype(self.dtype).kind in "iu" else (-LARGEST, LARGEST)
        return of_type[0] if self.low is None else self.low, of_type[1] if self.high is None else self.high


def floats(*shape: int | None, low: float | None = None, order: Order = "any") -> ArraySpec:
    """float32, finite, none so large that sums overflow."""
    return ArraySpec(np.float32, shape, low, order=order)


def indices(*shape: int | None, below: int, low: int = 0, order: Order = "any") -> ArraySpec:
    """int32 from `low` to before `below`; what `below` things are numbered by."""
    return ArraySpec(np.int32, shape, low, below - 1, order)


def offsets(rows: int | None) -> ArraySpec:
    """int64 (rows + 1,): where rows begin and the last one ends. That they begin at 0 and end with the values is `features.ragged`'s."""
    return ArraySpec(np.int64, (None if rows is None else rows + 1,), 0, order="rising")


def form(dtype: np.dtype[Any] | type, shape: Shape) -> str:
    """`float32 (any, 64)`"""
    return f"{np.dtype(dtype)} ({', '.join('any' if length is None else str(length) for length in shape)})"


def _said(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else f"{bound:,}"


def _blocks(flat: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each block with the number before it, so that neighbours are seen across its edge; and where that begins."""
    return ((max(start - 1, 0), flat[max(start - 1, 0) : start + BLOCK]) for start in range(0, len(flat), BLOCK))


def _first_outside(flat: np.ndarray, low: float, high: float) -> int | None:
    """The first number that is less than `low`, more than `high`, or none."""
    for start, block in _blocks(flat):
        if not (block.min() >= low and block.max() <= high):  # of NaN both are NaN, and no comparison is true
            return start + int(np.argmin((block >= low) & (block <= high)))
    return None


def _first_fall(flat: np.ndarray, low: float, high: float) -> int | None:
    for start, block in _blocks(flat):
        if (falls := block[1:] < block[:-1]).any():
            return start + 1 + int(falls.argmax())
    return None


def _first_rise(flat: np.ndarray, low: float, high: float) -> int | None:
    for start, block in _blocks(flat):
        if (rises := block[1:] > block[:-1]).any():
            return start + 1 + int(rises.argmax())
    return None


def _first_repeated(flat: np.ndarray, low: float, high: float) -> int | None:
    """A byte for every number there may be; the place is sought only where there is one."""
    seen = np.zeros(max(int(high) - int(low) + 1, 0), bool)
    for start in range(0, len(flat), BLOCK):
        seen[flat[start : start + BLOCK] - int(low)] = True
    if int(np.count_nonzero(seen)) == len(flat):
        return None
    order = np.argsort(flat, kind="stable")
    return int(order[1:][flat[order[1:]] == flat[order[:-1]]].min())


_IN_ORDER: Mapping[Order, tuple[tuple[Callable[[np.ndarray, Any, Any], int | None], str], ...]] = {
    "any": (),
    "rising": ((_first_fall, "numbers that never fall"),),
    "falling": ((_first_rise, "numbers that never rise"),),
    "distinct": ((_first_repeated, "different numbers"),),
}
"""What finds the first number that is out of order, and what was expected there."""
