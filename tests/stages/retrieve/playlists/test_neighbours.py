from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.domain import NO_TRACK
from stages.retrieve.playlists.neighbours import NeighboursRecipe
from tests import oracles, worlds
from tests.contracts import QUICK, RetrieverContract

ROWS = st.lists(st.lists(st.integers(0, 9), unique=True, max_size=6), min_size=1, max_size=8)


class TestNeighbours(RetrieverContract):
    recipe = NeighboursRecipe()


class TestFewNeighbours(RetrieverContract):
    recipe = NeighboursRecipe(neighbours=5, sharpness=0.5)


@QUICK
@given(rows=ROWS, seeds=st.lists(st.integers(0, 9), unique=True, max_size=4), neighbours=st.integers(1, 9))
def test_votes_are_the_oracle_s(rows: list[list[int]], seeds: list[int], neighbours: int) -> None:
    source = NeighboursRecipe(neighbours=neighbours, sharpness=2.0).fit(worlds.visible(worlds.interactions(rows, 10)))
    found = source.retrieve(worlds.queries(worlds.query(*seeds)), 10)
    votes = oracles.neighbour_votes([set(row) for row in rows], set(seeds), neighbours, 2.0)
    proposed = found.tracks[0][found.tracks[0] != NO_TRACK].tolist()
    if len(set(votes.values())) == len(votes):  # rounding may part or join what is equal on paper
        assert set(proposed) == {track for track, value in votes.items() if value > 1e-12}
    for track, score in zip(proposed, found.scores[0], strict=False):
        assert score == pytest.approx(votes[track], rel=1e-3, abs=1e-6)


def test_a_rare_seed_says_more_than_a_frequent_one() -> None:
    rows = [[0, 1], [0, 2], [0, 3], [0, 4], [5, 6], [7], [8]]
    source = NeighboursRecipe().fit(worlds.visible(worlds.interactions(rows, 10)))
    assert source.retrieve(worlds.queries(worlds.query(0, 5)), 1).tracks.tolist() == [[6]]


def test_a_track_that_all_playlists_hold_says_nothing() -> None:
    source = NeighboursRecipe().fit(worlds.visible(worlds.interactions([[0, 1], [0, 2], [0]], 3)))
    assert (source.retrieve(worlds.queries(worlds.query(0)), 3).tracks == NO_TRACK).all()
    assert math.isclose(float(source.voters.idf[0]), 0)


def test_only_the_nearest_playlists_vote() -> None:
    rows = [[0, 1, 2], [0, 1, 3, 4, 5, 6], [0, 7, 8]]
    source = NeighboursRecipe(neighbours=1).fit(worlds.visible(worlds.interactions(rows, 9)))
    assert source.retrieve(worlds.queries(worlds.query(0, 1)), 9).tracks[0, :2].tolist() == [2, NO_TRACK]


def test_plays_make_no_difference() -> None:
    rows = [[0, 1], [0, 2], [3]]
    one, many = (NeighboursRecipe().fit(worlds.visible(worlds.interactions(rows, 4, plays=plays))) for plays in ([1] * 5, [9, 1, 5, 1, 1]))
    asked = worlds.queries(worlds.query(0))
    np.testing.assert_array_equal(one.retrieve(asked, 4).scores, many.retrieve(asked, 4).scores)
