from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.domain import NO_TRACK
from stages.retrieve.item_item.model import SlimRecipe
from stages.retrieve.item_item.training import slim
from tests import worlds
from tests.contracts import QUICK, RetrieverContract

NUM_TRACKS = 9
HELD = st.lists(st.lists(st.integers(0, NUM_TRACKS - 2), min_size=1, max_size=6, unique=True), min_size=1, max_size=10)


class TestSlim(RetrieverContract):
    recipe = SlimRecipe(least_playlists=1)


def regressed(held: list[list[int]], ridge: float, shrinkage: float, least: int) -> np.ndarray:
    """(seed, track) every track regressed on all it shares a playlist with, one system at a time."""
    x = np.array([[track in playlist for track in range(NUM_TRACKS)] for playlist in held], float)
    together, weights = x.T @ x, np.zeros((NUM_TRACKS, NUM_TRACKS))
    kept = [track for track in range(NUM_TRACKS) if together[track, track] >= least]
    for target in kept:
        near = [track for track in kept if track != target and together[track, target]]
        system = together[np.ix_(near, near)]
        system += np.diag(ridge + shrinkage * system.diagonal())
        weights[near, target] = np.maximum(np.linalg.solve(system, together[near, target]), 0)
    return weights


@QUICK
@given(
    held=HELD,
    ridge=st.sampled_from([0.5, 20.0]),
    shrinkage=st.sampled_from([0.0, 0.5]),
    least=st.sampled_from([1, 2]),
    block=st.sampled_from([1, 4, 256]),
)
def test_the_weights_are_those_of_the_regressions(held: list[list[int]], ridge: float, shrinkage: float, least: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slim, "BLOCK", block)
        found = SlimRecipe(ridge=ridge, shrinkage=shrinkage, least_playlists=least).fit(
            worlds.visible(worlds.interactions(held, NUM_TRACKS))
        )
    np.testing.assert_allclose(found.weights.toarray(), regressed(held, ridge, shrinkage, least), rtol=1e-3, atol=1e-5)


def test_the_nearest_neighbours_are_regressed_on() -> None:
    """0 is with 1 in all of its playlists and with 2 in one."""
    held = worlds.interactions([[0, 1], [0, 1], [0, 1, 2], [2, 3], [2, 3]], 4)
    found = SlimRecipe(neighbours=1, ridge=1.0, shrinkage=0, least_playlists=1).fit(worlds.visible(held)).weights.toarray()
    np.testing.assert_allclose(found[:, 0], [0, 3 / 4, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(found[:, 3], [0, 0, 2 / 4, 0], rtol=1e-5)


def test_what_another_neighbour_already_says_counts_less() -> None:
    """1 and 2 always come together: each gets half of what it would get alone."""
    held = worlds.interactions([[0, 1, 2]] * 10 + [[3]] * 5, 4)
    weights = SlimRecipe(ridge=1e-3, shrinkage=0, least_playlists=1).fit(worlds.visible(held)).weights.toarray()
    np.testing.assert_allclose(weights[1:3, 0], [0.5, 0.5], atol=1e-3)


def test_rare_tracks_and_all_but_the_most_held_are_left_out() -> None:
    held = worlds.interactions([[0, 1, 2], [0, 1, 2], [0, 1], [0, 3]], 4)
    rare = SlimRecipe(least_playlists=2).fit(worlds.visible(held))
    assert set(np.unique(rare.weights.nonzero())) == {0, 1, 2}
    few = SlimRecipe(least_playlists=1, most_tracks=2).fit(worlds.visible(held))
    assert set(np.unique(few.weights.nonzero())) == {0, 1}
    assert (few.retrieve(worlds.queries(worlds.query(3)), 3).tracks == NO_TRACK).all()


def test_of_a_large_dataset_a_sample_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    held = worlds.interactions([[0, 1]] * 10, 2)
    weights = SlimRecipe(ridge=1.0, shrinkage=0, least_playlists=1, most_entries=8).fit(worlds.visible(held)).weights
    assert weights[0, 1] == pytest.approx(4 / 5)


def test_nothing_to_regress_on_is_no_error() -> None:
    found = SlimRecipe().fit(worlds.visible(worlds.interactions([[0], [1]], 3)))
    assert found.weights.nnz == 0
