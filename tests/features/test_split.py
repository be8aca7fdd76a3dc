"""The leak guard: what is hidden from a playlist is not in what anybody may learn from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.interactions import Interactions
from features.split import HISTORIES, LEAST_HIDDEN, SHAPES, Shape, Split, hide, shapes_of, without
from tests import worlds

QUICK = settings(max_examples=80, deadline=None)
FEW = (Shape("title only", 0), Shape("first 3", 3, title=False), Shape("title + random 4", 4, shuffled=True))


@st.composite
def worlds_to_split(draw: st.DrawFn) -> tuple[Interactions, np.ndarray, int]:
    """Playlists of 0 to 40 tracks, of which some are to be hidden from."""
    lengths = draw(st.lists(st.integers(0, 40), min_size=1, max_size=10))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    rows = [random.permutation(60)[:length].tolist() for length in lengths]
    plays = random.integers(1, 9, sum(lengths)).tolist()
    held = worlds.interactions(rows, 60, [f"list {i}" for i in range(len(rows))], plays)
    chosen = draw(st.lists(st.integers(0, len(rows) - 1), unique=True))
    return held, np.array(sorted(chosen), np.int32), draw(st.integers(0, 5))


def needed(shape: Shape, length: int) -> int:
    return max(shape.seeds, int(shape.share * length)) + shape.hidden


def split_of(world: tuple[Interactions, np.ndarray, int], shapes: tuple[Shape, ...] = SHAPES) -> tuple[Interactions, np.ndarray, Split]:
    held, chosen, seed = world
    return held, chosen, hide(held, chosen, seed, shapes)


@QUICK
@given(world=worlds_to_split())
def test_no_hidden_track_of_a_query_is_visible_in_its_playlist(world: tuple[Interactions, np.ndarray, int]) -> None:
    _, _, split = split_of(world)
    dense = split.visible.matrix.toarray()
    for i, playlist in enumerate(split.playlists):
        hidden = split.qrels.of_query(i)
        assert len(hidden) >= LEAST_HIDDEN
        assert not np.isin(hidden, split.visible.tracks_of(playlist)).any()
        assert not dense[playlist, hidden].any()
        assert not np.isin(hidden, split.queries.seeds_of(i)).any()


@QUICK
@given(world=worlds_to_split())
def test_seeds_and_hidden_tracks_together_are_the_playlist_and_the_seeds_alone_are_visible(
    world: tuple[Interactions, np.ndarray, int],
) -> None:
    held, _, split = split_of(world)
    for i, playlist in enumerate(split.playlists):
        seeds = split.queries.seeds_of(i).tolist()
        assert split.visible.tracks_of(playlist).tolist() == seeds
        assert sorted(seeds + split.qrels.of_query(i).tolist()) == sorted(held.tracks_of(playlist).tolist())


@QUICK
@given(world=worlds_to_split())
def test_every_other_playlist_is_untouched(world: tuple[Interactions, np.ndarray, int]) -> None:
    held, chosen, split = split_of(world)
    before, after = held.matrix.toarray(), split.visible.matrix.toarray()
    others = np.setdiff1d(np.arange(held.num_playlists), split.playlists)
    np.testing.assert_array_equal(after[others], before[others])  # plays too
    assert all(split.visible.tracks_of(p).tolist() == held.tracks_of(p).tolist() for p in others.tolist())
    assert set(split.playlists.tolist()) <= set(chosen.tolist())
    assert (split.visible.titles, split.visible.num_tracks) == (held.titles, held.num_tracks)


@QUICK
@given(world=worlds_to_split())
def test_what_stays_visible_keeps_its_plays(world: tuple[Interactions, np.ndarray, int]) -> None:
    held, _, split = split_of(world)
    before, after = held.matrix.toarray(), split.visible.matrix.toarray()
    assert (after[after > 0] == before[after > 0]).all()
    assert len(split.visible.plays) == len(split.visible.tracks) == split.visible.offsets[-1]


@QUICK
@given(world=worlds_to_split(), shapes=st.sampled_from([SHAPES, FEW, FEW[1:], HISTORIES]))
def test_shapes_are_honoured(world: tuple[Interactions, np.ndarray, int], shapes: tuple[Shape, ...]) -> None:
    held, chosen, split = split_of(world, shapes)
    lengths = held.lengths()
    assert split.playlists.tolist() == [p for p in chosen.tolist() if any(needed(s, lengths[p]) <= lengths[p] for s in shapes)]
    assert len(split.queries) == len(split.qrels) == len(split.shapes) == len(split.playlists)
    for i, playlist in enumerate(split.playlists):
        shape, tracks, seeds = shapes[split.shapes[i]], held.tracks_of(playlist).tolist(), split.queries.seeds_of(i).tolist()
        assert len(seeds) == max(shape.seeds, int(shape.share * len(tracks))) <= len(tracks) - shape.hidden
        assert split.queries.titles[i] == (held.titles[playlist] if shape.title else "")
        if shape.shuffled:
            assert [track for track in tracks if track in set(seeds)] == seeds  # random ones, still in their order
        else:
            assert seeds == tracks[: len(seeds)]


@QUICK
@given(world=worlds_to_split())
def test_what_is_split_is_not_modified_and_the_same_seed_splits_the_same(world: tuple[Interactions, np.ndarray, int]) -> None:
    held, _, split = split_of(world)
    tracks, offsets = held.tracks.copy(), held.offsets.copy()
    _, _, again = split_of(world)
    for one, other in (
        (split.visible.tracks, again.visible.tracks),
        (split.queries.seeds.values, again.queries.seeds.values),
        (split.shapes, again.shapes),
    ):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(held.tracks, tracks)
    np.testing.assert_array_equal(held.offsets, offsets)


def long_world(playlists: int = 100, length: int = 110) -> Interactions:
    random = np.random.default_rng(0)
    return worlds.interactions(
        [random.permutation(300)[:length].tolist() for _ in range(playlists)], 300, [f"list {i}" for i in range(playlists)]
    )


def test_where_lengths_allow_every_shape_comes_equally_often() -> None:
    split = hide(long_world(), np.arange(100, dtype=np.int32), seed=1)
    assert np.bincount(split.shapes, minlength=len(SHAPES)).tolist() == [10] * 10


def test_short_playlists_leave_the_long_shapes_to_the_long_ones() -> None:
    random = np.random.default_rng(0)
    rows = [random.permutation(300)[: 110 if i < 20 else 12].tolist() for i in range(100)]
    split = hide(worlds.interactions(rows, 300), np.arange(100, dtype=np.int32), seed=1, shapes=SHAPES)
    given_to = np.bincount(split.shapes, minlength=len(SHAPES))
    assert given_to[8:].tolist() == [2, 2]  # a hundred seeds fit the long ones alone, which get all shapes in turn
    assert given_to[:4].min() >= 18


def test_random_seeds_are_random_and_first_ones_are_not() -> None:
    held, everyone = long_world(), np.arange(100, dtype=np.int32)
    random, first = (hide(held, everyone, 1, [Shape("", 5, shuffled=shuffled)]) for shuffled in (True, False))
    assert sum(held.tracks_of(p)[0] in random.queries.seeds_of(p) for p in range(100)) < 30
    assert all(held.tracks_of(p)[:5].tolist() == first.queries.seeds_of(p).tolist() for p in range(100))
    other = hide(held, everyone, 2, [Shape("", 5, shuffled=True)])
    assert other.queries.seeds.values.tolist() != random.queries.seeds.values.tolist()


@pytest.mark.parametrize("lengths", [[], [0, 4, 3]])
def test_playlists_too_short_for_any_shape_stay_as_they_are(lengths: list[int]) -> None:
    held = worlds.interactions([list(range(length)) for length in lengths], 10)
    split = hide(held, np.arange(len(lengths), dtype=np.int32), seed=0, shapes=SHAPES)
    assert len(split.queries) == len(split.qrels) == len(split.playlists) == 0
    assert split.visible.tracks.tolist() == held.tracks.tolist()


def test_a_cached_view_of_everything_does_not_come_along() -> None:
    held = worlds.interactions([[0, 1, 2], [1]], 3)
    assert held.matrix.nnz == 4
    assert held.track_counts.tolist() == [1, 2, 1]
    left = without(held, np.array([0], np.int32), [np.array([1, 2], np.int32)])
    assert (left.matrix.nnz, left.track_counts.tolist()) == (2, [1, 1, 0])


def test_without_titles_playlists_are_asked_as_histories() -> None:
    assert shapes_of(worlds.interactions([[0, 1]], 2, ["road trip"])) is SHAPES
    assert shapes_of(worlds.interactions([[0, 1]], 2, [" "])) is HISTORIES
    untitled = worlds.interactions([list(range(10))] * 20, 10, [""] * 20)
    split = hide(untitled, np.arange(20, dtype=np.int32), seed=0)
    assert sorted(set(split.queries.seed_counts().tolist())) == [5, 8, 9]
    assert split.queries.titles == ("",) * 20


def test_hiding_tracks_leaves_the_followers() -> None:
    held = replace(worlds.interactions([[0, 1], [2]], 3), followers=np.array([4, 9], np.int32))
    assert without(held, np.array([0], np.int32), [np.array([1], np.int32)]).followers.tolist() == [4, 9]
