from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from engine.config import Config, SourcesConfig, TrialsConfig
from engine.train.autoconfig import autoconfigure, what_is_known
from features.catalog import Catalog
from features.dataset import Dataset
from stages.retrieve.als.model import AlsRecipe
from stages.retrieve.catalogue.same_artist import ArtistRecipe
from tests import worlds

BASE = Config(
    sources=SourcesConfig(
        only=("als", "artist", "album", "title", "content"), als=AlsRecipe(factors=8, iterations=3, alpha=10, regularization=1e4)
    ),
    alternatives={"als": ({"regularization": 0.01}, {"regularization": 0.011}, {"factors": 10})},
    trials=TrialsConfig(playlists=20, worth=0.05),
)


def dataset() -> Dataset:
    return worlds.checkerboard(num_playlists=80, num_held=120, num_cold=4).dataset()


def with_columns(known: Dataset, **columns: str | None) -> Dataset:
    """The same with catalog columns overwritten by one value each."""
    table = known.catalog.table
    for name, value in columns.items():
        table = table.with_columns(pl.lit(value, dtype=table.schema[name]).alias(name))
    return replace(known, catalog=Catalog(table))


def test_an_alternative_is_taken_while_it_pays() -> None:
    settled = autoconfigure(dataset(), BASE)
    tried = settled.reasons["tried"]["als"]
    assert [one["regularization"] for one in tried] == [1e4, 0.01, 0.011]  # the last of them brings nothing, so a fourth is not tried
    assert tried[1]["ndcg@500"] > 1.05 * tried[0]["ndcg@500"]
    assert settled.config.sources.als == AlsRecipe(factors=8, iterations=3, alpha=10, regularization=0.01)
    assert not settled.config.alternatives
    assert autoconfigure(dataset(), BASE).reasons == settled.reasons


def test_what_never_pays_leaves_the_first() -> None:
    settled = autoconfigure(dataset(), BASE.model_copy(update={"trials": TrialsConfig(playlists=20, worth=1e6)}))
    assert settled.config.sources.als == BASE.sources.als
    assert len(settled.reasons["tried"]["als"]) == 2


def test_without_alternatives_nothing_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AlsRecipe, "fit", lambda *_: pytest.fail("fitted"))
    config = BASE.model_copy(update={"alternatives": {}})
    assert autoconfigure(dataset(), config).config.sources.als == BASE.sources.als


def test_sources_of_which_nothing_is_known_are_left_out_and_named() -> None:
    bare = with_columns(dataset(), artist=None, album=None, energy=None, danceability=None)
    bare = replace(bare, interactions=replace(bare.interactions, titles=("",) * bare.interactions.num_playlists))
    assert what_is_known(bare) == set()
    settled = autoconfigure(bare, BASE.model_copy(update={"alternatives": {}}))
    assert settled.reasons["left_out"] == {"artist": "artists", "album": "albums", "title": "titles or artists", "content": "content"}
    assert list(settled.config.sources.recipes()) == ["als", "popularity"]
    assert Config.model_validate(settled.config.model_dump()) == settled.config


def test_artists_alone_are_enough_for_titles() -> None:
    some = with_columns(dataset(), album=None, energy=None, danceability=None)
    some = replace(some, interactions=replace(some.interactions, titles=("",) * some.interactions.num_playlists))
    settled = autoconfigure(some, BASE.model_copy(update={"alternatives": {}}))
    assert set(settled.reasons["left_out"]) == {"album", "content"}
    assert settled.config.sources.artist == ArtistRecipe()


def test_a_large_dataset_is_tried_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = AlsRecipe.fit
    monkeypatch.setattr(
        AlsRecipe, "fit", lambda self, data, report: seen.append(len(data.interactions.tracks)) or original(self, data, report)
    )
    autoconfigure(dataset(), BASE.model_copy(update={"trials": TrialsConfig(playlists=5, entries=300)}))
    assert seen
    assert max(seen) <= 300


def test_a_sample_keeps_whole_playlists_in_order() -> None:
    held = dataset().interactions
    sample = held.sampled(300, seed=2)
    assert 0 < len(sample.tracks) <= 300
    assert held.sampled(len(held.tracks), seed=2) is held
    rows = [held.titles.index(title) for title in sample.titles] if len(set(held.titles)) == len(held.titles) else None
    whole = {held.tracks_of(i).tobytes() for i in range(held.num_playlists)}
    assert all(sample.tracks_of(i).tobytes() in whole for i in range(sample.num_playlists))
    assert rows is None or rows == sorted(rows)
    np.testing.assert_array_equal(sample.plays, np.ones(len(sample.tracks), np.float32))


@pytest.mark.parametrize(
    ("alternatives", "message"),
    [
        ({"alz": ({"factors": 8},)}, "expected names among als, .* found alz"),
        ({"als": ({"factor": 8},)}, "factor"),
        ({"als": ({"factors": 0},)}, "factors"),
    ],
)
def test_alternatives_of_no_source_or_no_setting_are_refused(alternatives: dict[str, tuple[dict[str, int], ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(alternatives=alternatives)


def test_alternatives_of_a_source_that_is_left_out_are_not_tried() -> None:
    assert Config(sources=SourcesConfig(als=None)).ladders() == {}
