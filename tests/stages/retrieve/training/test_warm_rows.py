"""A fit that begins with an older model has less to learn, and knows the tracks that the older one did not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from features.domain import NO_TRACK, Ints, SegueError
from stages.resume import TrainingContext, WarmStart
from stages.retrieve.autoencoder.model import AutoencoderRecipe
from stages.retrieve.autoencoder.training import Trainer
from stages.retrieve.content.recipes import ContractiveRecipe, TransformerRecipe
from stages.retrieve.factorization.model import FactorizationRecipe
from stages.retrieve.recipe import Recipe
from stages.retrieve.training.warm_rows import linear_map, warm_rows
from stages.training_data import TrainingData
from tests import worlds
from tests.contracts import board, fitted
from tests.steps import CutOffError, Remembered

QUICKLY: dict[str, Any] = {"epochs": 12, "batch_size": 16, "negatives": 64, "learning_rate": 0.02}
RECIPES: dict[str, Recipe] = {
    "autoencoder": AutoencoderRecipe(dim=8, **QUICKLY),
    "regular": AutoencoderRecipe(dim=8, variant="regular", **QUICKLY),
    "hybrid": AutoencoderRecipe(dim=8, content=True, **QUICKLY),
    "factorization": FactorizationRecipe(factors=8, **QUICKLY),
}
NEW = np.arange(0, board().num_held, 5)
"""Tracks that the older model does not know."""


def before() -> tuple[TrainingData, Ints]:
    """The checkerboard without the new tracks, and where its tracks are there; they stand in another order."""
    kept = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(board().num_tracks), NEW))
    rows = np.full(board().num_tracks, NO_TRACK, np.int32)
    rows[kept] = np.arange(len(kept))
    held = [[int(rows[track]) for track in board().held.tracks_of(p) if rows[track] != NO_TRACK] for p in range(board().held.num_playlists)]
    return worlds.visible(worlds.interactions(held, len(kept)), content=board().visible.content[kept]), rows


def warm(name: str, effort: float) -> TrainingData:
    visible, rows = before()
    return board().but(past=TrainingContext(older=WarmStart(RECIPES[name].fit(visible), rows), effort=effort))


@pytest.mark.parametrize("name", RECIPES)
def test_a_quarter_of_the_epochs_is_enough(name: str) -> None:
    heard: list[float] = []
    source = RECIPES[name].fit(warm(name, 0.25), lambda phase, done, figures: heard.append(done))
    assert heard == [10 / 12, 11 / 12, 1.0]
    assert board().precision_at_1(source.retrieve(board().questions(), 1).tracks[:, 0]) == 1.0


@pytest.mark.parametrize("name", RECIPES)
def test_without_a_single_epoch_it_knows_the_new_tracks(name: str) -> None:
    """Asked with them alone, it goes on with tracks that are alike."""
    source = RECIPES[name].fit(warm(name, 0.0))
    asked = worlds.queries(*(worlds.query(int(track)) for track in NEW))
    found = source.retrieve(asked, 5).tracks
    assert (found % 2 == NEW[:, None] % 2).mean() > 0.9


@pytest.mark.parametrize("name", RECIPES)
def test_tracks_that_are_known_begin_where_they_were(name: str) -> None:
    visible = warm(name, 0.0)
    assert visible.past.older is not None
    older, rows = visible.past.older.source.track_vectors, visible.past.older.rows
    held = np.setdiff1d(np.arange(board().num_held), NEW)
    np.testing.assert_allclose(RECIPES[name].fit(visible).track_vectors[held], older[rows[held]], atol=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_a_warm_fit_that_was_cut_off_goes_on_too(name: str) -> None:
    visible, steps = warm(name, 0.25), Remembered(cut_off_after=1)
    cut_off = replace(visible, past=replace(visible.past, steps=steps))
    with pytest.raises(CutOffError):
        RECIPES[name].fit(cut_off)
    np.testing.assert_array_equal(RECIPES[name].fit(cut_off).track_vectors, RECIPES[name].fit(visible).track_vectors)


def test_the_layers_are_the_older_ones() -> None:
    visible = warm("autoencoder", 0.0)
    source = RECIPES["autoencoder"].fit(visible)
    assert visible.past.older is not None
    for name, layer in visible.past.older.source.layers.items():
        np.testing.assert_array_equal(source.layers[name], layer)


def test_a_hybrid_knows_what_content_says_before_its_first_epoch() -> None:
    trainer = Trainer(RECIPES["hybrid"], warm("hybrid", 0.0))
    cold = trainer.track_vectors()[board().num_held :, :-1]
    even, odd = (trainer.track_vectors()[parity : board().num_held : 2, :-1].mean(axis=0) for parity in (0, 1))
    of_even = np.arange(board().num_held, board().num_tracks) % 2 == 0
    assert ((cold @ (even - odd) > 0) == of_even).mean() > 0.9


def test_another_kind_of_older_model_is_refused() -> None:
    visible = board().but(
        past=TrainingContext(older=WarmStart(fitted(RECIPES["factorization"]), np.arange(board().num_tracks, dtype=np.int32)))
    )
    with pytest.raises(SegueError, match="older model: expected a source that is Autoencoder, found Factorization"):
        RECIPES["autoencoder"].fit(visible)


@pytest.mark.parametrize(("effort", "steps", "left"), [(1.0, 6, 6), (0.25, 6, 2), (0.01, 6, 1), (0.0, 6, 0)])
def test_an_older_model_stands_for_the_first_steps(effort: float, steps: int, left: int) -> None:
    older = WarmStart(fitted(RECIPES["factorization"]), np.arange(board().num_tracks, dtype=np.int32))
    assert TrainingContext(older=older, effort=effort).left(steps) == range(steps - left, steps)
    assert TrainingContext(effort=effort).left(steps) == range(steps)  # nothing stands for any


def test_new_rows_are_seen_from_the_older_ones() -> None:
    """The two spaces are the same but for a turn, which some tracks tell."""
    random = np.random.default_rng(0)
    start = random.normal(size=(50, 5)).astype(np.float32)
    turned = start.copy()  # the last coordinate is the bias
    turned[:, :-1] = start[:, :-1] @ np.linalg.qr(random.normal(size=(4, 4)))[0].astype(np.float32)
    rows = np.where(np.arange(50) < 30, np.arange(50)[::-1], NO_TRACK).astype(np.int32)
    vectors = np.zeros((50, 5), np.float32)
    vectors[rows[:30]] = turned[:30]
    vectors[rows[0]] = [0, 0, 0, 0, -9]  # nobody held it
    found = warm_rows(torch.from_numpy(start), WarmStart(fitted(RECIPES["factorization"]), rows), vectors).numpy()
    np.testing.assert_array_equal(found[1:30], turned[1:30])
    np.testing.assert_allclose(found, turned, atol=0.02)


@pytest.mark.parametrize("recipe", [ContractiveRecipe(dim=4, epochs=2), TransformerRecipe(dim=8, layers=1, heads=2, epochs=2)])
def test_a_source_that_keeps_no_network_is_fitted_afresh(recipe: Recipe) -> None:
    older = WarmStart(fitted(recipe), np.arange(board().num_tracks, dtype=np.int32))
    warm = recipe.fit(board().but(past=TrainingContext(older=older, effort=0.25)))
    np.testing.assert_array_equal(warm.track_vectors, fitted(recipe).track_vectors)


def test_where_nothing_is_known_the_map_is_none() -> None:
    assert not linear_map(np.zeros((0, 3), np.float32), np.zeros((0, 2), np.float32)).any()
