from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.domain import NO_TRACK
from stages.retrieve.playlists.title import LONGEST_TITLE, Title, TitleRecipe, normalise
from tests import worlds
from tests.contracts import RetrieverContract, fitted

ANY_TEXT = st.text(st.characters(), max_size=60)
"""Lone surrogates too, which JSON can hold."""
HOSTILE = (
    *("a" * 1_000_000, "a " * 100_000, "ab" * 100_000, "\u0301" * 50_000, "\ufdfa" * 10_000, "👨‍👩‍👧" * 9_000),
    *("(" * 5_000, "(a+)+" * 4_000, "\\" * 9_999, "[^", "%s%n", "\0", "\ud800"),
)


class TestTitle(RetrieverContract):
    recipe = TitleRecipe()
    hears = frozenset({"title"})
    needs_content = True
    proposes_cold = True  # by an artist whose name is the title


class TestTitleOfWholeWords(RetrieverContract):
    recipe = TitleRecipe(shortest=3, longest=3, neighbours=10, sharpness=4, tracks_of_artist=0)
    hears = frozenset({"title"})
    needs_content = True


def fit(*titles: str) -> Title:
    """Playlist `i` holds track `i` alone; one more has no title."""
    rows = [[track] for track in range(len(titles) + 1)]
    return TitleRecipe().fit(worlds.visible(worlds.interactions(rows, len(rows), [*titles, ""])))


def first(source: Title, title: str) -> int:
    return int(source.retrieve(worlds.queries(worlds.query(title=title)), 1).tracks[0, 0])


@pytest.mark.parametrize("title", ["even", "even drive", "an even rain", "even something new"])
def test_a_title_alone_continues_the_checkerboard(title: str) -> None:
    assert (fitted(TestTitle.recipe).retrieve(worlds.queries(worlds.query(title=title)), 10).tracks % 2 == 0).all()


@pytest.mark.parametrize(
    "title",
    [
        *("summer road trip", "SUMMER ROAD TRIP", "  summer\troad  trip ", "sümmer róad trip", "su\u0308mmer road trip"),
        *("trip road summer", "sumer road trip", "summer roadtrip", "summer-road-trip!!!", "#summer_road_trip", "summmmmer road trip"),
        *("summer road trip ☀️", "\uff53\uff55\uff4d\uff4d\uff45\uff52 road trip", "summer's road trip", "my summer road trips 2017"),
    ],
)
def test_spelling_case_accents_and_word_order_matter_little(title: str) -> None:
    assert first(fit("christmas dinner", "summer road trip", "gym", "winter is cold"), title) == 1


@pytest.mark.parametrize(("title", "wanted"), [("❤", 1), ("❤️❤️", 1), ("my ❤️ list", 1), ("🔥", 0), ("🔥🔥🔥 gym 🔥", 0), ("👍🏽", 2)])
def test_an_emoji_is_a_word(title: str, wanted: int) -> None:
    assert first(fit("🔥", "❤️", "👍🏿", "nothing"), title) == wanted


@pytest.mark.parametrize("title", ["", "   ", "...", "?!", "'", "_", "\u200d", "\u0301\u0302"])
def test_a_title_that_says_nothing_is_not_answered(title: str) -> None:
    assert first(fit("summer", "..."), title) == NO_TRACK


def test_a_playlist_without_a_title_never_votes() -> None:
    source = fit("summer", "winter")
    found = source.retrieve(worlds.queries(worlds.query(title="summer winter")), 3).tracks
    assert 2 not in found


def test_other_scripts_are_titles_too() -> None:
    source = fit("夏の思い出", "лето", "καλοκαίρι", "summer")
    assert [first(source, title) for title in ("夏の歌", "ЛЕТО 2016", "ΚΑΛΟΚΑΊΡΙ")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Rock & Roll", "rock roll"),
        ("Beyoncé", "beyonce"),
        ("yessss", "yess"),
        ("Straße", "strasse"),
        ("a🔥b", "a 🔥 b"),
        ("don't", "dont"),
    ],
)
def test_what_is_compared(title: str, expected: str) -> None:
    assert normalise(title) == expected


@settings(max_examples=100, deadline=None)
@given(title=ANY_TEXT, other=ANY_TEXT)
def test_any_text_is_a_title(title: str, other: str) -> None:
    recipe = TitleRecipe()
    source = recipe.fit(worlds.visible(worlds.interactions([[0], [1], [2]], 3, [title, other, ""])))
    found = source.retrieve(worlds.queries(worlds.query(title=title), worlds.query(title=other)), 3)
    assert np.isfinite(found.scores[found.tracks != NO_TRACK]).all()
    said = normalise(title)
    assert said == " ".join(said.split())
    if said and said != normalise(other):
        assert found.tracks[0, 0] == 0  # who has the very title goes first


@settings(max_examples=100, deadline=None)
@given(title=st.text(st.sampled_from("abcxyz 019"), max_size=30))
def test_case_makes_no_difference(title: str) -> None:
    assert normalise(title.upper()) == normalise(title)


@pytest.mark.parametrize("title", HOSTILE, ids=lambda title: f"{title[:4]!a} x {len(title)}")
def test_hostile_titles_take_bounded_time(title: str) -> None:
    source = fit("summer", title)
    started = time.perf_counter()
    source.retrieve(worlds.queries(worlds.query(title=title)), 3)
    assert time.perf_counter() - started < 1.0
    assert len(normalise(title)) <= 40 * LONGEST_TITLE


def test_what_comes_after_the_longest_title_does_not_count() -> None:
    head = ("summer " * LONGEST_TITLE)[:LONGEST_TITLE]
    assert normalise(head + " winter") == normalise(head)
