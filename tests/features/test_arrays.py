"""An array is what its specification says, or refused with the place of its first number that is not."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.arrays import BLOCK, LARGEST, ArraySpec, floats, indices, offsets
from features.domain import SegueError
from features.npy import load_array, load_ragged, save_array
from features.reading import reading
from tests.contracts import QUICK

NAN, INF = float("nan"), float("inf")
TWO_ROWS = np.ones((2, 3), np.float32)


def refused(array: np.ndarray, spec: ArraySpec) -> str:
    with pytest.raises(SegueError, match=r"^here: expected .+, found .+\. Copy it again") as caught:
        spec.require(array, "here", "Copy it again")
    return str(caught.value)


def admitted(array: np.ndarray, spec: ArraySpec) -> bool:
    try:
        spec.require(array, "here")
    except SegueError:
        return False
    return True


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e30, -2 * LARGEST, -0.5])
@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 6])
def test_a_number_out_of_range_is_found_in_every_block(bad: float, place: int) -> None:
    numbers = np.ones(2 * BLOCK + 7, np.float32)
    numbers[place] = bad
    assert f"expected numbers from 0 to 1e+15, found {numbers[place]} at place {place:,}" in refused(numbers, floats(None, low=0))


@pytest.mark.parametrize("place", [1, BLOCK - 1, BLOCK, 2 * BLOCK])
def test_a_fall_is_found_within_blocks_and_between_them(place: int) -> None:
    rising = np.arange(2 * BLOCK + 1) + 1
    assert admitted(rising, offsets(2 * BLOCK))
    rising[place] = rising[place - 1] - 1
    assert f"numbers that never fall, found {rising[place]} at place {place:,}" in refused(rising, offsets(2 * BLOCK))
    falling = (-rising).astype(np.float32)
    assert f"numbers that never rise, found {falling[place]} at place {place:,}" in refused(falling, floats(None, order="falling"))


@pytest.mark.parametrize("numbers", [[0, 1, 2, 1], [3, 3, 0, 1], [2, 0, 2, 2]])
def test_a_number_that_is_there_twice_is_found(numbers: list[int]) -> None:
    assert "expected different numbers" in refused(np.array(numbers, np.int32), indices(4, below=4, order="distinct"))
    assert admitted(np.array(numbers, np.int32), indices(4, below=4))


@QUICK
@given(
    numbers=st.lists(st.integers(-4, 6), max_size=8),
    low=st.integers(-2, 2),
    below=st.integers(0, 6),
    order=st.sampled_from(["any", "rising", "falling", "distinct"]),
)
def test_it_admits_what_a_slow_check_does(numbers: list[int], low: int, below: int, order: Any) -> None:
    in_range = all(low <= number < below for number in numbers)
    in_order = {
        "any": True,
        "rising": numbers == sorted(numbers),
        "falling": numbers == sorted(numbers, reverse=True),
        "distinct": len(set(numbers)) == len(numbers),
    }
    found = admitted(np.array(numbers, np.int32), indices(None, below=below, low=low, order=order))
    assert found == (in_range and in_order[order])


@pytest.mark.parametrize(
    "array",
    [np.ones((3, 2)), TWO_ROWS, TWO_ROWS[0], TWO_ROWS.T, np.ones((3, 4), np.float32)[:, ::2]],
    ids=["type", "lengths", "dimensions", "order", "steps"],
)
def test_an_array_of_another_form_is_refused(array: np.ndarray) -> None:
    assert "expected float32 (any, 2), found float" in refused(array, floats(None, 2))


def test_a_file_in_fortran_order_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(np.ones((3, 2), np.float32)))
    with pytest.raises(SegueError, match=r"a\.npy: expected float32 \(3, 2\), found float32 \(3, 2\), not in C order"):
        load_array(tmp_path / "a.npy", floats(3, 2))


@pytest.mark.parametrize(
    ("ends", "found"),
    [
        ([0, 3, 1, 4], "expected numbers that never fall, found 1 at place 2"),
        ([1, 2, 3, 4], "expected 0 to 4, one past the last value, found 1 to 4"),
        ([-1, 2, 3, 4], "expected numbers from 0 to .*, found -1 at place 0"),
        ([0, 2, 3, 5], r"values\.npy: expected int32 \(5\), found int32 \(4\)"),
        ([0, 1, 4, 4], "expected rows of at most 2 values, found 3"),
        ([0, 2, 4], r"expected int64 \(4\), found int64 \(3\)"),
    ],
)
def test_rows_that_do_not_fit_their_values_are_refused(tmp_path: Path, ends: list[int], found: str) -> None:
    save_array(tmp_path / "values.npy", np.arange(4, dtype=np.int32))
    save_array(tmp_path / "offsets.npy", np.array(ends))
    with pytest.raises(SegueError, match=found):
        load_ragged(tmp_path / "values.npy", tmp_path / "offsets.npy", indices(None, below=4), 3, longest=2)


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "x"), OSError("cannot open: Too many open files (24)"), ValueError("Too many open files (os error 24)")]
)
def test_what_the_machine_refuses_is_not_blamed_on_the_file(error: Exception) -> None:
    with pytest.raises(OSError, match="Too many open files") as caught, reading(Path("a.npy"), "numbers"):
        raise error
    assert (caught.value.errno, caught.value.filename) == (errno.EMFILE, "a.npy")


def test_a_lack_of_memory_is_not_blamed_on_the_file() -> None:
    with pytest.raises(MemoryError), reading(Path("a.npy"), "numbers"):
        raise MemoryError


def test_what_is_wrong_with_the_file_is_told_in_one_line() -> None:
    with (
        pytest.raises(SegueError, match=r"^a\.json: expected numbers, found no number\. Write it again$"),
        reading(Path("a.json"), "numbers", "Write it again"),
    ):
        raise ValueError("no number\nin the second line")
