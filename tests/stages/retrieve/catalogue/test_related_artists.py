from __future__ import annotations

import numpy as np
import pytest

from stages.retrieve.als.model import AlsRecipe
from stages.retrieve.catalogue.related_artists import RelatedRecipe
from stages.retrieve.catalogue.training import artist_plays
from tests import worlds
from tests.contracts import RetrieverContract

SMALL = AlsRecipe(factors=3, alpha=20, regularization=0.01, iterations=8)


class TestRelated(RetrieverContract):
    recipe = RelatedRecipe(als=AlsRecipe(factors=8, iterations=5, alpha=10))
    has_vectors = True
    proposes_cold = True
    needs_content = True


class TestRelatedWithBiases(RetrieverContract):
    recipe = RelatedRecipe(als=AlsRecipe(factors=8, iterations=5, alpha=10, biases=True))
    has_vectors = True
    proposes_cold = True
    needs_content = True


def test_a_playlist_plays_an_artist_as_often_as_the_logarithm_of_its_tracks() -> None:
    held = worlds.interactions([[0, 1, 2, 3], [3, 4], []], 5, plays=[9, 1, 1, 1, 1, 1])
    plays = artist_plays(held, np.array([0, 0, 0, 1, -1], np.int32), 0, held.num_playlists)
    np.testing.assert_allclose(plays.toarray(), [[2, 1], [0, 1], [0, 0]], rtol=1e-6)


def test_tracks_are_reached_through_who_made_them() -> None:
    """No playlist holds the seed beside the answer; their artists share playlists."""
    artists = ["a", "a", "b", "b", "b", "c", "c", None]
    held = worlds.interactions([[1, 2], [1, 2], [1, 3], [5, 6], [6]], 8)
    source = RelatedRecipe(als=SMALL).fit(worlds.visible(held, worlds.catalog(8, artist=artists)))
    found = source.retrieve(worlds.queries(worlds.query(0), worlds.query(7), worlds.query(0, 7)), 4)
    assert found.tracks[0].tolist()[:1] == [1]  # the same artist's
    assert set(found.tracks[0].tolist()[:4]) == {1, 2, 3, 4}  # then the related one's, a cold track too
    assert found.tracks[0].tolist().index(2) < found.tracks[0].tolist().index(4)  # the more popular first
    assert set(found.tracks[1].tolist()) == {-1}  # nothing is known of who made the seed
    np.testing.assert_array_equal(found.tracks[2], found.tracks[0])


@pytest.mark.parametrize("artists", [[None] * 3, ["a", None, "b"]])
def test_little_or_nothing_known_of_artists_is_no_error(artists: list[str | None]) -> None:
    held = worlds.interactions([[0, 1], [1, 2]], 3)
    source = RelatedRecipe(als=SMALL).fit(worlds.visible(held, worlds.catalog(3, artist=artists)))
    found = source.retrieve(worlds.queries(worlds.query(1)), 2)
    assert set(found.tracks[0].tolist()) == {-1}
