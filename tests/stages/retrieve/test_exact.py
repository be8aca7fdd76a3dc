from __future__ import annotations

from contextlib import ExitStack
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.domain import NO_TRACK, Floats, Queries
from stages.retrieve import exact
from stages.retrieve.exact import ExactIndex
from stages.retrieve.index import IndexRecipe
from tests import oracles, worlds
from tests.contracts import QUICK, IndexContract, same

ROWS = st.lists(st.tuples(*[st.integers(-3, 3)] * 2), min_size=1, max_size=24)
"""Small whole numbers: many ties, equal lengths and vectors of zeros, and sums without rounding."""
WAYS = {"by bounds": {"LONE": 1_000, "SCAN_SHARE": 0}, "by scan": {"LONE": 0}}
"""Constants that leave only one way to search."""


class TestExact(IndexContract):
    recipe = IndexRecipe(kind="exact")


class TestByBounds(TestExact):
    @pytest.fixture(autouse=True)
    def _by_bounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exact, "LEAST_HEAD", 2)
        for name, value in WAYS["by bounds"].items():
            monkeypatch.setattr(exact, name, value)


@QUICK
@given(
    rows=ROWS,
    wanted=st.lists(st.tuples(*[st.integers(-3, 3)] * 2), max_size=4),
    n=st.integers(1, 30),
    data=st.data(),
    way=st.sampled_from(sorted(WAYS)),
    small=st.sampled_from([1, 3, 100]),
    head=st.sampled_from([1, 2]),
)
def test_it_finds_exactly_what_brute_force_finds(
    rows: list[tuple[int, int]], wanted: list[tuple[int, int]], n: int, data: st.DataObject, way: str, small: int, head: int
) -> None:
    some = st.lists(st.integers(0, len(rows) - 1), unique=True)
    tracks, excluded = sorted(data.draw(some)), [data.draw(some) for _ in wanted]
    vectors, query_vectors = np.array(rows, np.float32), np.array(wanted, np.float32).reshape(len(wanted), 2)
    asked = worlds.queries(*(worlds.query(*row[::2], exclude=row[1::2]) for row in excluded))
    with ExitStack() as patches:
        constants = {**WAYS[way], "BLOCK": small, "GATHERED": small, "SCORES": small, "SAMPLE": small, "LEAST_HEAD": head}
        for name, value in constants.items():
            patches.enter_context(mock.patch.object(exact, name, value))
        found = ExactIndex.build(vectors, np.array(tracks, np.int32)).search(query_vectors, asked, n)
    for i, query_vector in enumerate(query_vectors):
        expected = oracles.nearest(vectors, tracks, query_vector, set(excluded[i]), n) if query_vector.any() else []
        assert found.tracks[i].tolist() == [track for track, _ in expected] + [NO_TRACK] * (n - len(expected))
        assert found.scores[i, : len(expected)].tolist() == [score for _, score in expected]


def world(rows: int = 20_000, dim: int = 64) -> tuple[Floats, Floats, Queries]:
    """(vectors whose weight lies on few axes, query vectors, queries)."""
    random = np.random.default_rng(0)
    spectrum = np.exp(-np.arange(dim) / 6)
    turned, _ = np.linalg.qr(random.normal(size=(dim, dim)))
    vectors = (random.normal(size=(rows, dim)) * spectrum @ turned * random.lognormal(0, 0.5, (rows, 1))).astype(np.float32)
    seeds = random.integers(rows, size=(12, 3))
    return vectors, vectors[seeds].mean(axis=1), worlds.queries(*(worlds.query(*set(row.tolist())) for row in seeds))


def test_an_answer_does_not_depend_on_the_way_nor_on_who_else_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, wanted, asked = world()
    index = ExactIndex.build(vectors, np.arange(len(vectors), dtype=np.int32))
    scores = np.einsum("nd,qd->qn", vectors.astype(np.float64), wanted)
    found = index.search(wanted, asked, 100)
    for i in range(len(asked)):
        scores[i, asked.excluded(i)] = -np.inf
        assert set(found.tracks[i].tolist()) == set(np.argsort(-scores[i])[:100].tolist())
        alone = index.search(wanted[i : i + 1], asked.part(i, i + 1), 100)
        np.testing.assert_array_equal(alone.tracks[0], found.tracks[i])
        np.testing.assert_array_equal(alone.scores[0], found.scores[i])
    for name, value in WAYS["by bounds"].items():
        monkeypatch.setattr(exact, name, value)
    same(index.search(wanted, asked, 100), found)


def test_bounds_rule_most_vectors_out() -> None:
    vectors, wanted, _ = world()
    index = ExactIndex.build(vectors, np.arange(len(vectors), dtype=np.int32))
    near = [len(index.within_reach(vector, 100)) for vector in wanted]
    assert min(near) >= 100
    assert np.mean(near) < 0.05 * len(vectors)


def test_tracks_with_one_and_the_same_vector_come_in_their_order() -> None:
    """More of them than are asked for, in more than one block: a matrix product rounds some blocks otherwise."""
    vectors = np.tile(np.random.default_rng(0).normal(size=(1, 33)).astype(np.float32), (10_000, 1))
    index = ExactIndex.build(vectors, np.arange(len(vectors), dtype=np.int32))
    for count in (1, 5):
        found = index.search(vectors[:count], worlds.queries(*[worlds.query(0, 7)] * count), 20)
        assert found.tracks.tolist() == [[*range(1, 7), *range(8, 22)]] * count


def test_the_longest_come_first() -> None:
    index = ExactIndex.build(np.array([[1, 0], [3, 4], [0, 2], [9, 9]], np.float32), np.array([0, 1, 2], np.int32))
    assert index.tracks.tolist() == [1, 2, 0]
