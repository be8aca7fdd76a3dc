"""The two content benchmarks on a table whose genres are known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import contractive, genre
from features.domain import NO_TRACK, Retrieved
from stages.retrieve.content.recipes import ContractiveRecipe, CosineRecipe


@pytest.fixture
def tracks(tmp_path: Path) -> Path:
    """Loud rock, quiet folk, and one track of no genre."""
    random, rock = np.random.default_rng(0), np.arange(60) % 2
    sound = {name: np.where(rock, 0.8, 0.2) + random.normal(0, 0.02, 60) for name in ("energy", "valence")}
    names = ["rock" if one else "folk" for one in rock[:-1]] + [None]
    pl.DataFrame({"track_id": [f"t{i}" for i in range(60)], "genre": names, **sound}).write_parquet(tmp_path / "tracks.parquet")
    return tmp_path / "tracks.parquet"


@pytest.mark.parametrize("with_genre", [True, False])
def test_tracks_of_a_genre_that_sound_alike_are_found(tracks: Path, with_genre: bool) -> None:
    world = genre.world(tracks, with_genre, seed=0)
    assert world.num_tracks == 59
    assert any(name.startswith("genre=") for name in world.content_names) == with_genre
    found = genre.measure(CosineRecipe(), world, np.arange(10))
    assert (found["precision@10"], found["mrr"]) == (1, 1)


def test_the_figures_are_those_of_the_answers() -> None:
    found = Retrieved(np.array([[1, 2], [0, NO_TRACK], [1, 0]], np.int32), np.array([[0.9, 0.5], [0.7, -np.inf], [0.2, 0.2]], np.float32))
    figures = genre.figures(found, np.array(["a", "b", "a"]), np.array([0, 1, 2]))
    assert figures == {"precision@10": 0.3333, "mrr": 0.3333, "mean_similarity": 0.5}  # first hits at rank 2, never, 2


def test_the_loss_is_of_tracks_it_saw_and_of_tracks_it_did_not(tracks: Path) -> None:
    found = genre.losses(ContractiveRecipe(dim=4, epochs=20, batch_size=4, learning_rate=0.01), genre.world(tracks, False, seed=0))
    assert 0 < found["train_loss"] < 0.1
    assert 0 < found["validation_loss"] < 0.1


def test_a_setting_changes_the_start_by_what_it_names(tracks: Path) -> None:
    inputs, names = contractive.inputs_of(tracks, sample=40, seed=0)
    assert (tuple(inputs.shape), names) == ((40, 2), ("energy", "valence"))
    slow, fast = (contractive.measure({"learning_rate": rate}, inputs, seed=0) for rate in (0.00001, 0.01))
    assert fast["loss_percent"] < slow["loss_percent"]
    assert fast["reconstruction_percent"] <= fast["loss_percent"]
    assert len(contractive.settings()) == 15
