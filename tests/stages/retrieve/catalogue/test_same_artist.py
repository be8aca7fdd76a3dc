from __future__ import annotations

import numpy as np
import pytest

from features.domain import NO_TRACK
from stages.retrieve.catalogue.same_artist import AlbumRecipe, ArtistRecipe, MoreOfTheSame
from tests import worlds
from tests.contracts import RetrieverContract


class TestArtist(RetrieverContract):
    recipe = ArtistRecipe()
    proposes_cold = True
    needs_nobody = True
    needs_content = True


class TestAlbum(RetrieverContract):
    recipe = AlbumRecipe()
    proposes_cold = True
    needs_nobody = True
    needs_content = True


def fit(artists: list[str | None], rows: list[list[int]], **options: int) -> MoreOfTheSame:
    return ArtistRecipe(**options).fit(
        worlds.visible(worlds.interactions(rows, len(artists)), worlds.catalog(len(artists), artist=artists))
    )


def answers(source: MoreOfTheSame, *seeds: int, n: int = 10) -> list[int]:
    [row] = source.retrieve(worlds.queries(worlds.query(*seeds)), n).tracks.tolist()
    return [track for track in row if track >= 0]


def test_only_tracks_of_the_seeds_artists_are_proposed_most_held_first() -> None:
    source = fit(["a", "b", "a", "a", "c"], [[3, 0], [3], [2, 3], [1, 4], [4]])
    assert answers(source, 0) == [3, 2]
    assert answers(source, 4) == []
    assert answers(source, 1, 2) == [3, 0]


def test_an_artist_with_more_seeds_goes_first_but_less_than_proportionally() -> None:
    source = fit(["a", "a", "b", "b", "b", "b", "b"], [[1, 6]])
    [row], [scores] = (part.tolist() for part in _found(source, 0, 2, 3, 4, 5))
    assert row[:2] == [6, 1]
    assert scores[0] == pytest.approx(2 * scores[1], rel=1e-5)  # four seeds count as two


def _found(source: MoreOfTheSame, *seeds: int) -> tuple[np.ndarray, np.ndarray]:
    found = source.retrieve(worlds.queries(worlds.query(*seeds)), 3)
    return found.tracks, found.scores


def test_a_new_track_of_a_known_artist_is_proposed_last() -> None:
    assert answers(fit(["a", "a", "a"], [[0, 1], [1]]), 0) == [1, 2]


def test_tracks_without_an_artist_are_neither_asked_with_nor_proposed() -> None:
    source = fit([None, "a", "a", None], [[0, 1, 2, 3]])
    assert answers(source, 0) == []
    assert answers(source, 0, 1) == [2]


def test_an_artist_proposes_so_many_tracks_at_most() -> None:
    source = fit(["a"] * 6, [[5, 4], [5, 4], [5, 3], [0]], tracks_per_artist=2)
    assert answers(source, 1) == [5, 4]


def albums(names: list[str | None], rows: list[list[int]], artists: list[str | None] | None = None) -> MoreOfTheSame:
    described = worlds.catalog(len(names), album=names, artist=artists or ["a"] * len(names))
    return AlbumRecipe().fit(worlds.visible(worlds.interactions(rows, len(names)), described))


def test_an_album_proposes_its_most_held_tracks_first() -> None:
    source = albums(["one", "one", "one", "two", None], [[2, 1], [2], [3, 4]])
    assert answers(source, 0) == [2, 1]
    assert answers(source, 3, 4) == []


def test_albums_of_the_same_name_by_two_artists_are_two_albums() -> None:
    assert answers(albums(["hits", "hits", "hits"], [[0, 1, 2]], ["a", "b", "a"]), 0) == [2]


def test_where_no_album_is_known_the_source_is_silent() -> None:
    source = albums([None] * 4, [[0, 1, 2, 3]])
    assert (source.retrieve(worlds.queries(worlds.query(0, 1)), 5).tracks == NO_TRACK).all()
    assert source.kind == "album"
