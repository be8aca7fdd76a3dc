from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.domain import NO_TRACK, Floats, Queries
from stages.retrieve import search_kernels
from stages.retrieve.index.exact import ExactIndex
from stages.retrieve.index.recipe import IndexRecipe
from tests import oracles, worlds
from tests.contracts import QUICK, IndexContract


class TestExact(IndexContract):
    recipe = IndexRecipe(kind="exact")


@QUICK
@given(
    rows=st.integers(1, 600),
    distinct=st.integers(1, 30),
    dim=st.sampled_from([1, 2, 33, 64]),
    queries=st.integers(0, 5),
    n=st.integers(1, 700),
    left_out=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_it_finds_exactly_what_brute_force_finds(
    rows: int, distinct: int, dim: int, queries: int, n: int, left_out: float, seed: int
) -> None:
    """Small whole numbers: many ties, equal lengths and vectors of zeros, and sums without rounding."""
    random = np.random.default_rng(seed)
    some = random.integers(-3, 4, size=(distinct, dim)) * random.integers(0, 2, size=(distinct, 1))
    vectors = some[random.integers(distinct, size=rows)].astype(np.float32)
    query_vectors = random.integers(-3, 4, size=(queries, dim)).astype(np.float32)
    tracks, *excluded = (np.flatnonzero(random.random(rows) >= left_out).tolist() for _ in range(queries + 1))
    asked = worlds.queries(*(worlds.query(*row[::2], exclude=row[1::2]) for row in excluded))
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


def test_an_answer_does_not_depend_on_who_else_asks() -> None:
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


def test_heads_rule_most_vectors_out_and_tails_nearly_all() -> None:
    vectors, wanted, _ = world()
    index = ExactIndex.build(vectors, np.arange(len(vectors), dtype=np.int32))
    near = np.array([index.read(vector, 100) for vector in wanted])
    by_head, by_tail = near.mean(axis=0)
    assert near.min() >= 100
    assert by_head < 0.05 * len(vectors)
    assert by_tail < 150


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


def test_a_guess_that_was_too_high_is_mended() -> None:
    """The sample that says where the best begin holds all of the best."""
    random, rows = np.random.default_rng(0), np.arange(3_200)
    scores = np.where(rows % search_kernels.SAMPLE == 0, 1 + random.random(3_200), random.random(3_200))
    vectors = np.stack([10_000 - rows, scores], axis=1).astype(np.float32)  # longest first: the sample is every sixteenth
    wanted = np.array([0, 1], np.float32)
    found = ExactIndex.build(vectors, rows.astype(np.int32)).search(wanted[None], worlds.queries(worlds.query()), 30)
    assert found.tracks[0].tolist() == [track for track, _ in oracles.nearest(vectors, rows.tolist(), wanted, set(), 30)]
