"""Ragged: rows of different lengths in one array, against lists of lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ragged import Ragged, offsets_of

ROWS = st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=8)


@given(ROWS)
def test_its_rows_are_those_it_was_made_of(rows: list[list[int]]) -> None:
    ragged = Ragged.of(rows)
    assert len(ragged) == len(rows)
    assert [ragged.row(i).tolist() for i in range(len(ragged))] == rows
    assert ragged.values.tolist() == [value for row in rows for value in row]
    assert ragged.lengths().tolist() == [len(row) for row in rows]
    assert ragged.owners().tolist() == [i for i, row in enumerate(rows) for _ in row]
    assert ragged.values.dtype == np.int32
    assert ragged.offsets.dtype == np.int64


@given(ROWS, st.integers(0, 8), st.integers(0, 9))
def test_a_part_is_a_slice_of_the_rows(rows: list[list[int]], start: int, more: int) -> None:
    start = min(start, len(rows))
    part = Ragged.of(rows).part(start, start + more)
    assert [part.row(i).tolist() for i in range(len(part))] == rows[start : start + more]


@given(ROWS, st.data())
def test_rows_are_taken_in_any_order_and_more_than_once(rows: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)) if rows else []
    taken = Ragged.of(rows).take(np.array(chosen, np.int32))
    assert [taken.row(i).tolist() for i in range(len(taken))] == [rows[i] for i in chosen]


def test_a_part_and_a_row_share_the_memory() -> None:
    ragged = Ragged.of([[1, 2], [3]])
    assert np.shares_memory(ragged.part(1, 2).values, ragged.values)
    assert np.shares_memory(ragged.row(0), ragged.values)


def test_its_values_have_the_type_they_are_given() -> None:
    assert Ragged.of([[0.5], []], np.float32).values.dtype == np.float32
    assert Ragged.of([], np.float32).values.dtype == np.float32


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        (np.zeros(0, np.int64), r"expected int64 \(rows \+ 1,\), found int64 \(0,\)"),
        (np.array([0, 3], np.int32), r"expected int64 \(rows \+ 1,\), found int32 \(2,\)"),
        (np.array([1, 3]), "expected 0 to 3, one past the last value, found 1 to 3"),
        (np.array([0, 2]), "expected 0 to 3, one past the last value, found 0 to 2"),
        (np.array([0, 2, 1, 3]), "expected numbers that never fall, found a fall at row 1"),
    ],
)
def test_offsets_that_are_none_are_an_error(offsets: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ragged(np.arange(3), offsets)


def test_offsets_begin_at_zero_and_end_at_the_sum() -> None:
    assert offsets_of([2, 0, 3]).tolist() == [0, 2, 2, 5]
    assert offsets_of([]).tolist() == [0]
