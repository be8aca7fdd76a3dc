"""What every content model promises, whichever made the vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.domain import NO_TRACK
from stages.retrieve.content.model import Content
from stages.retrieve.content.recipes import ContractiveRecipe, CosineRecipe, TransformerRecipe
from stages.retrieve.content.training.embeddings import unit_rows_about_the_mean
from stages.retrieve.index.recipe import IndexRecipe
from tests import worlds
from tests.contracts import RetrieverContract, board, fitted

Recipe = CosineRecipe | ContractiveRecipe | TransformerRecipe
TREES = IndexRecipe(kind="annoy", n_trees=20, search_k=10_000)
RECIPES: tuple[Recipe, ...] = (
    CosineRecipe(),
    ContractiveRecipe(dim=6, epochs=8, batch_size=64, learning_rate=0.01),
    TransformerRecipe(dim=8, layers=1, heads=2, epochs=8, batch_size=64, learning_rate=0.01),
)


class TestContentWithTrees(RetrieverContract):
    recipe = CosineRecipe(index=TREES)
    has_vectors = True
    proposes_cold = True
    needs_nobody = True
    needs_content = True


@pytest.fixture(params=RECIPES, ids=lambda recipe: recipe.kind)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    chosen: Recipe = request.param
    return chosen


def source_of(recipe: Recipe) -> Content:
    source = fitted(recipe)
    assert isinstance(source, Content)
    return source


def test_vectors_have_length_1_so_that_scores_are_cosines(recipe: Recipe) -> None:
    source = source_of(recipe)
    np.testing.assert_allclose(np.linalg.norm(source.track_vectors, axis=1), 1, rtol=1e-5)
    scores = source.retrieve(board().questions(), 20).scores
    assert (np.abs(scores) <= 1 + 1e-5).all()


def test_a_track_that_nobody_holds_has_neighbours_and_is_one(recipe: Recipe) -> None:
    source = source_of(recipe)
    cold = range(board().num_held, board().num_tracks)
    found = source.retrieve(worlds.queries(*(worlds.query(track) for track in cold)), 10).tracks
    assert (found % 2 == np.array(cold)[:, None] % 2).all()
    even = source.retrieve(worlds.queries(worlds.query(0, 2, 4)), board().num_tracks).tracks[0, : board().num_tracks // 2 - 3]
    assert set(range(board().num_held, board().num_tracks, 2)) <= set(even.tolist())


def test_a_cold_track_is_like_others_of_its_kind(recipe: Recipe) -> None:
    vectors, cold = source_of(recipe).track_vectors, board().num_tracks - 1
    nearest = np.argsort(-(vectors @ vectors[cold]))[1:11]
    assert (nearest % 2 == cold % 2).all()


def test_playlists_make_no_difference(recipe: Recipe) -> None:
    nobody = board().but(interactions=worlds.interactions([[]], board().num_tracks))
    found = recipe.fit(nobody).retrieve(board().questions(), 10)
    np.testing.assert_array_equal(found.tracks, fitted(recipe).retrieve(board().questions(), 10).tracks)


def test_tracks_that_all_sound_alike_say_nothing(recipe: Recipe) -> None:
    alike = np.full((board().num_tracks, 3), 0.1, np.float32)  # no binary number, so that means of it round
    source = recipe.fit(board().but(content=alike, content_names=("artist 0", "artist 1", "energy")))
    assert (source.retrieve(board().questions(), 5).tracks == NO_TRACK).all()


def test_the_manifest_says_which_model_made_the_vectors(recipe: Recipe, tmp_path: Path) -> None:
    said = source_of(recipe).save(tmp_path)
    assert (said["kind"], said["model"]) == ("content", recipe.kind)


def test_the_mean_is_taken_away_before_the_length() -> None:
    unit = unit_rows_about_the_mean(np.array([[3, 5], [7, 5], [5, 5], [5, 9], [5, 1]], np.float32))
    np.testing.assert_allclose(unit, [[-1, 0], [1, 0], [0, 0], [0, 1], [0, -1]], atol=1e-6)
