from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.domain import NO_TRACK
from stages.retrieve import search_kernels, topk
from tests import oracles, worlds
from tests.contracts import QUICK

SCORED = st.dictionaries(st.integers(0, 40), st.integers(-3, 3).map(float) | st.floats(-(2**60), 2**60, width=32), max_size=30)


@QUICK
@given(scored=SCORED, n=st.integers(1, 40), seed=st.integers(0, 9))
def test_the_best_are_those_of_a_sorted_list(scored: dict[int, float], n: int, seed: int) -> None:
    tracks = np.random.default_rng(seed).permutation(np.array(list(scored), np.int32))
    scores = np.array([scored[track] for track in tracks.tolist()], np.float32)
    found, best = topk.best(tracks, scores, n)
    assert list(zip(found.tolist(), best.tolist(), strict=True)) == oracles.best_first(scored.items(), n)
    assert (found.dtype, best.dtype) == (np.int32, np.float32)


@QUICK
@given(scores=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=30), n=st.integers(1, 40))
def test_the_floor_is_reached_by_as_many_as_wanted_and_few_more(scores: list[float], n: int) -> None:
    found = search_kernels.floor(np.array(scores, np.float32), n)
    assert sum(score >= found for score in scores) >= min(n, len(scores))
    if found > -np.inf:
        nth = sorted(scores)[-n]
        assert nth - max(abs(nth) * 2**-12, 2.0**-138) <= found <= nth


def test_zeros_of_either_sign_are_equal() -> None:
    found, best = topk.best(np.array([5, 3, 4], np.int32), np.array([0.0, -0.0, 0.0], np.float32), 2)
    assert (found.tolist(), best.tolist()) == ([3, 4], [0, 0])


@QUICK
@given(scored=SCORED, excluded=st.sets(st.integers(0, 40)), n=st.integers(1, 40))
def test_what_is_put_are_the_best_that_are_not_excluded(scored: dict[int, float], excluded: set[int], n: int) -> None:
    found = topk.empty(2, n)
    tracks, scores = np.array(list(scored), np.int32), np.array(list(scored.values()), np.float32)
    topk.put(found, 1, tracks, scores, np.array(list(excluded), np.int32))
    expected = oracles.best_first(((track, score) for track, score in scored.items() if track not in excluded), n)
    assert found.tracks.tolist() == [[NO_TRACK] * n, [track for track, _ in expected] + [NO_TRACK] * (n - len(expected))]
    assert found.scores[1].tolist() == [score for _, score in expected] + [-np.inf] * (n - len(expected))


@QUICK
@given(order=st.permutations(range(12)), excluded=st.sets(st.integers(0, 11)), n=st.integers(1, 15))
def test_of_one_order_the_first_that_are_not_excluded(order: list[int], excluded: set[int], n: int) -> None:
    scores = np.arange(12, 0, -1, dtype=np.float32)
    found = topk.top_of_order(np.array(order, np.int32), scores, worlds.queries(worlds.query(*excluded), worlds.query(exclude=excluded)), n)
    expected = [track for track in order if track not in excluded][:n]
    assert found.tracks.tolist() == [expected + [NO_TRACK] * (n - len(expected))] * 2


def test_room_is_padding_until_something_is_put() -> None:
    room = topk.empty(2, 3)
    assert room.tracks.tolist() == [[NO_TRACK] * 3] * 2
    assert (room.scores == -np.inf).all()
