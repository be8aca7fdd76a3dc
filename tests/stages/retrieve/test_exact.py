from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.domain import NO_TRACK
from stages.retrieve import exact
from stages.retrieve.exact import ExactIndex
from stages.retrieve.index import IndexRecipe
from tests import oracles, worlds
from tests.contracts import QUICK, IndexContract

ROWS = st.lists(st.tuples(*[st.integers(-3, 3)] * 2), min_size=1, max_size=24)
"""Small whole numbers: many ties, equal lengths and vectors of zeros, and sums without rounding."""


class TestExact(IndexContract):
    recipe = IndexRecipe()


@QUICK
@given(
    rows=ROWS,
    wanted=st.lists(st.tuples(*[st.integers(-3, 3)] * 2), max_size=3),
    n=st.integers(1, 30),
    data=st.data(),
    first_block=st.sampled_from([1, 2, 5, 100]),
)
def test_it_finds_exactly_what_brute_force_finds(
    rows: list[tuple[int, int]], wanted: list[tuple[int, int]], n: int, data: st.DataObject, first_block: int
) -> None:
    some = st.lists(st.integers(0, len(rows) - 1), unique=True)
    tracks, excluded = sorted(data.draw(some)), [data.draw(some) for _ in wanted]
    vectors, query_vectors = np.array(rows, np.float32), np.array(wanted, np.float32).reshape(len(wanted), 2)
    asked = worlds.queries(*(worlds.query(*row[::2], exclude=row[1::2]) for row in excluded))
    with mock.patch.object(exact, "FIRST_BLOCK", first_block):
        found = ExactIndex.build(vectors, np.array(tracks, np.int32)).search(query_vectors, asked, n)
    for i, query_vector in enumerate(query_vectors):
        expected = oracles.nearest(vectors, tracks, query_vector, set(excluded[i]), n) if query_vector.any() else []
        assert found.tracks[i].tolist() == [track for track, _ in expected] + [NO_TRACK] * (n - len(expected))
        assert found.scores[i, : len(expected)].tolist() == [score for _, score in expected]


def test_short_vectors_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "FIRST_BLOCK", 32)
    lengths = np.array([100.0] * 32 + [1.0] * 1_000, np.float32)
    index = ExactIndex.build(np.stack([lengths, np.zeros_like(lengths)], axis=1), np.arange(1_032, dtype=np.int32))
    merged = []
    merge = ExactIndex._merge
    monkeypatch.setattr(
        ExactIndex, "_merge", staticmethod(lambda kept, tracks, *more: merged.append(len(tracks)) or merge(kept, tracks, *more))
    )
    found = index.search(np.array([[1.0, 0.0]], np.float32), worlds.queries(worlds.query()), 3)
    assert found.tracks.tolist() == [[0, 1, 2]]
    assert merged == [32]


def test_the_longest_come_first() -> None:
    index = ExactIndex.build(np.array([[1, 0], [3, 4], [0, 2], [9, 9]], np.float32), np.array([0, 1, 2], np.int32))
    assert index.tracks.tolist() == [1, 2, 0]
    assert index.lengths.tolist() == [5, 2, 1]
