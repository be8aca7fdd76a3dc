from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from features.domain import NO_TRACK
from stages.retrieve.sparse_sums import room_for, summed, top_of_sums
from tests import oracles, worlds
from tests.contracts import QUICK

CELLS = st.lists(st.lists(st.sampled_from([0, 0, 1, 2, 3]), min_size=6, max_size=6), min_size=1, max_size=5)
ASKED = st.lists(st.tuples(st.dictionaries(st.integers(0, 4), st.integers(0, 3), max_size=4), st.sets(st.integers(0, 5))), max_size=4)


def weighted(rows: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(list(rows), np.int32), np.array(list(rows.values()), np.float32)


@QUICK
@given(cells=CELLS, asked=ASKED, n=st.integers(1, 8), stored_zeros=st.booleans())
def test_the_largest_sums_are_those_of_a_dense_matrix(
    cells: list[list[int]], asked: list[tuple[dict[int, int], set[int]]], n: int, stored_zeros: bool
) -> None:
    asked = [({row: weight for row, weight in rows.items() if row < len(cells)}, excluded) for rows, excluded in asked]
    matrix = sp.csr_matrix(np.array(cells, np.float32) + stored_zeros)
    matrix.data -= stored_zeros
    queries = worlds.queries(*(worlds.query(exclude=excluded) for _, excluded in asked))
    found = top_of_sums(matrix, (weighted(rows) for rows, _ in asked), queries, n)
    for i, (rows, excluded) in enumerate(asked):
        sums = {track: sum(weight * cells[row][track] for row, weight in rows.items()) for track in range(6)}
        expected = oracles.best_first(((track, score) for track, score in sums.items() if score > 0 and track not in excluded), n)
        assert found.tracks[i].tolist() == [track for track, _ in expected] + [NO_TRACK] * (n - len(expected))
        assert found.scores[i].tolist() == [score for _, score in expected] + [-np.inf] * (n - len(expected))


def test_the_room_is_left_as_it_was_found() -> None:
    matrix = sp.csr_matrix(np.array([[0, 1, 2], [3, 0, 4]], np.float32))
    room = room_for(matrix)
    for _ in range(2):
        columns, sums = summed(matrix, *weighted({0: 1, 1: 2}), room)
        assert dict(zip(columns.tolist(), sums.tolist(), strict=True)) == {1: 1, 2: 10, 0: 6}
        assert room.tolist() == [0, 0, 0]
