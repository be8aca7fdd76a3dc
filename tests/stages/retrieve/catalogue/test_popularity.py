from __future__ import annotations

import numpy as np

from stages.retrieve.catalogue.popularity import PopularityRecipe
from tests import worlds
from tests.contracts import RetrieverContract


class TestPopularity(RetrieverContract):
    recipe = PopularityRecipe()
    hears = frozenset()
    proposes_cold = True  # last of all: where nothing is known, any track is as good
    needs_nobody = True
    continues_the_checkerboard = False  # it tells all the same


def test_tracks_come_by_the_number_of_playlists_that_hold_them() -> None:
    held = worlds.interactions([[3, 1], [1, 2], [1, 3], [0]], 6)
    found = PopularityRecipe().fit(worlds.visible(held)).retrieve(worlds.queries(worlds.query(), worlds.query(1, exclude=[4])), 6)
    assert found.tracks.tolist() == [[1, 3, 0, 2, 4, 5], [3, 0, 2, 5, -1, -1]]
    assert found.scores[0].tolist() == [3, 2, 1, 1, 0, 0]


def test_plays_do_not_count_but_playlists_do() -> None:
    held = worlds.interactions([[0], [1], [1]], 2, plays=[100, 1, 1])
    assert PopularityRecipe().fit(worlds.visible(held)).retrieve(worlds.queries(worlds.query()), 2).tracks.tolist() == [[1, 0]]


def test_a_title_and_seeds_change_nothing_but_what_is_left_out() -> None:
    source = PopularityRecipe().fit(worlds.checkerboard().visible)
    plain, titled = source.retrieve(worlds.queries(worlds.query(), worlds.query(title="odd party")), 20).tracks
    np.testing.assert_array_equal(plain, titled)
