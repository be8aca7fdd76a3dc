from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from features.domain import NO_TRACK, Queries, Query, SegueError
from features.npy import save_array
from stages.retrieve.factorization import training as factorization_training
from stages.retrieve.factorization.model import Background, Factorization, FactorizationRecipe
from stages.retrieve.index.recipe import IndexRecipe
from tests import worlds
from tests.contracts import QUICK, RetrieverContract, board, fitted

NUM_TRACKS = 12
QUICKLY: dict[str, Any] = {"factors": 8, "epochs": 12, "batch_size": 16, "negatives": 64, "learning_rate": 0.02}


class TestFactorization(RetrieverContract):
    recipe = FactorizationRecipe(**QUICKLY)
    has_vectors = True


class TestFactorizationWithTrees(RetrieverContract):
    recipe = FactorizationRecipe(
        **QUICKLY | {"negatives": 1_000}, weighting="followers", index=IndexRecipe(kind="annoy", n_trees=20, search_k=10_000)
    )
    has_vectors = True


class TestFactorizationByPosition(RetrieverContract):
    recipe = FactorizationRecipe(**QUICKLY, weighting="position")
    has_vectors = True


def source_of(recipe: FactorizationRecipe, vectors: np.ndarray, background: Background) -> Factorization:
    return Factorization(recipe, vectors, IndexRecipe().build(vectors, np.arange(len(vectors), dtype=np.int32), 0), background)


def loss_of(point: np.ndarray, seeds: list[int], vectors: np.ndarray, recipe: FactorizationRecipe) -> float:
    """The loss of the module's docstring for one playlist over the number of its tracks, a track at a time."""
    factors, bias = point[:-1], point[-1]
    place_weights = [1 / np.log2(place + 2) if recipe.weighting == "position" else 1.0 for place in range(len(seeds))]
    loss = recipe.regularization * factors @ factors / 2
    for track, row in enumerate(vectors.astype(float)):
        chance = 1 / (1 + np.exp(-(factors @ row[:-1] + bias + row[-1])))
        if track in seeds:
            loss -= place_weights[seeds.index(track)] / sum(place_weights) * np.log(chance)
        else:
            loss -= recipe.negative_weight / len(vectors) * np.log(1 - chance)
    return float(loss)


@QUICK
@given(
    seeds=st.lists(st.integers(0, NUM_TRACKS - 1), unique=True, min_size=1, max_size=NUM_TRACKS - 1),
    dim=st.integers(1, 4),
    weight=st.sampled_from([0.5, 10.0, 100.0]),
    regularization=st.sampled_from([0.01, 0.3]),
    weighting=st.sampled_from(["none", "followers", "position"]),
    seed=st.integers(0, 99),
)
def test_fold_in_minimises_the_loss(seeds: list[int], dim: int, weight: float, regularization: float, weighting: Any, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(NUM_TRACKS, dim + 1)).astype(np.float32)
    recipe = FactorizationRecipe(factors=dim, negative_weight=weight, regularization=regularization, weighting=weighting)
    source = source_of(recipe, vectors, Background.of(np.ones(NUM_TRACKS), 100, 0))
    found = source.fold_in(np.array(seeds, np.int32))
    best = minimize(loss_of, np.zeros(dim + 1), (seeds, vectors, recipe), tol=1e-8)
    assert loss_of(found, seeds, vectors, recipe) <= best.fun + 1e-4
    query_vector = source.query_vectors(worlds.queries(worlds.query(*seeds)))[0]
    np.testing.assert_allclose(query_vector, [*found[:-1], 1], rtol=1e-5)


def test_seeds_alone_are_folded_in_too() -> None:
    """A playlist that holds every track has no others to be set against."""
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    source = source_of(FactorizationRecipe(factors=2), vectors, Background.of(np.ones(4), 4, 0))
    assert np.isfinite(source.fold_in(np.arange(4, dtype=np.int32))).all()


def test_the_background_stands_for_all_tracks() -> None:
    counts = np.array([5, 0, 9, 1, 1, 0, 7, 0, 0, 0])
    few = Background.of(counts, 4, seed=1)
    assert few.tracks[:2].tolist() == [2, 6]  # the most held
    assert few.shares.tolist() == [1, 1, 4, 4]
    assert len(set(few.tracks.tolist())) == 4
    everything = Background.of(counts, 10, seed=1)
    assert everything.tracks.tolist() == list(range(10))
    assert everything.shares.tolist() == [1] * 10
    assert Background.of(counts, 1, seed=1).shares.tolist() == [10]


def test_a_query_is_nearly_the_same_against_a_background_as_against_all() -> None:
    source = fitted(TestFactorization.recipe)
    assert isinstance(source, Factorization)
    few = source_of(source.recipe, source.track_vectors, Background.of(board().held.track_counts, 140, 0))
    asked = board().questions()
    one, other = (of.query_vectors(asked) @ source.track_vectors.T for of in (source, few))
    assert all(np.corrcoef(a, b)[0, 1] > 0.98 for a, b in zip(one, other, strict=True))


def trainer_of(**settings: Any) -> factorization_training.Trainer:
    return factorization_training.Trainer(FactorizationRecipe(factors=3, dropout=0.0, **settings), board().but(seed=1))


@pytest.mark.parametrize("weighting", ["none", "position"])
def test_the_loss_of_a_playlist_is_the_one_that_fold_in_minimises(weighting: Any) -> None:
    trainer = trainer_of(negatives=1_000, regularization=0.0, weighting=weighting)
    tables, everything = trainer.learned.tables, torch.arange(board().num_tracks)
    held = [board().held.tracks_of(p) for p in (0, 1)]
    found = trainer.loss(tables["playlists"][:2], torch.ones(2, 3), tables["tracks"], everything, held, torch.ones(2))
    expected = [
        len(tracks) * loss_of(tables["playlists"][p].double().numpy(), tracks.tolist(), tables["tracks"].numpy(), trainer.recipe)
        for p, tracks in enumerate(held)
    ]
    assert float(found) == pytest.approx(sum(expected), rel=1e-4)


def test_the_sampled_loss_is_nearly_the_full_one() -> None:
    full, sampled = (
        float(np.mean([trainer.epoch(0, np.random.default_rng(epoch)) for epoch in range(15)]))
        for trainer in (trainer_of(batch_size=4, negatives=negatives, learning_rate=1e-12) for negatives in (1_000, 60))
    )
    assert sampled == pytest.approx(full, rel=0.01)


def test_the_first_biases_are_the_best_without_factors() -> None:
    """A query of all tracks' popularity: the gradient of the biases is nearly zero where the factors are zero."""
    tracks = trainer_of().learned.tables["tracks"][:, -1].numpy()
    chances = 1 / (1 + np.exp(-tracks))
    counts, entries = board().held.track_counts, len(board().held.tracks)
    as_other = trainer_of().recipe.negative_weight * entries / board().num_tracks
    np.testing.assert_allclose(counts * (1 - chances), as_other * chances, atol=0.2)


def test_training_lowers_the_loss() -> None:
    losses: list[float] = []
    TestFactorization.recipe.fit(board().visible, lambda phase, done, figures: losses.append(figures["loss"]))
    assert losses[-1] < losses[0] * 0.95


def test_regularization_keeps_the_factors_small() -> None:
    loose, tight = (
        np.linalg.norm(TestFactorization.recipe.model_copy(update={"regularization": by}).fit(board().visible).track_vectors[:, :-1])  # type: ignore[index]
        for by in (0.0, 1.0)
    )
    assert tight < loose / 2


def followed(followers: list[int]) -> Factorization:
    """Playlists 0 and 1 disagree about what goes with track 0."""
    held = worlds.interactions([[0, 1], [0, 2]] * 20, 4)
    held = type(held)(held.tracks, held.plays, held.offsets, held.titles, 4, np.array(followers * 20, np.int32))
    recipe = FactorizationRecipe(factors=2, epochs=60, batch_size=10, negatives=4, weighting="followers", dropout=0, learning_rate=0.025)
    return recipe.fit(worlds.visible(held))


def test_playlists_with_followers_teach_more() -> None:
    for followers, wanted in (([1_000, 0], 1), ([0, 1_000], 2)):
        assert followed(followers).retrieve(worlds.queries(worlds.query(0)), 1).tracks.tolist() == [[wanted]]


def test_by_position_the_first_tracks_count_most() -> None:
    source = fitted(TestFactorizationByPosition.recipe)
    assert isinstance(source, Factorization)
    even, odd = (board().held.tracks_of(p)[:3] for p in (0, 1))
    forth, back = (Query(np.concatenate(parts)) for parts in ((even, odd), (odd, even)))
    scores = source.query_vectors(Queries.of([forth, back])) @ source.track_vectors.T
    preferred = scores[:, 0 : board().num_held : 2].mean(1) - scores[:, 1 : board().num_held : 2].mean(1)
    assert preferred[0] > preferred[1] + 0.05


def test_entry_weights_are_1_in_the_mean() -> None:
    recipe = FactorizationRecipe(weighting="position")
    weights = recipe.entry_weights(np.arange(7))
    assert weights.mean() == pytest.approx(1)
    assert (np.diff(weights) < 0).all()
    assert FactorizationRecipe().entry_weights(np.arange(3)).tolist() == [1, 1, 1]
    by_followers = FactorizationRecipe(weighting="followers").playlist_weights(np.array([0, 10, 100], np.int32))
    assert by_followers.mean() == pytest.approx(1)
    assert (np.diff(by_followers) > 0).all()
    assert FactorizationRecipe().playlist_weights(np.array([0, 10], np.int32)).tolist() == [1, 1]


def test_the_biases_say_how_popular_a_track_is() -> None:
    source = fitted(TestFactorization.recipe)
    assert isinstance(source, Factorization)
    np.testing.assert_array_equal(source.track_biases, source.track_vectors[:, -1])
    assert source.track_biases[board().num_held :].max() < source.track_biases[: board().num_held].min()


def test_a_playlist_of_one_track_teaches_too() -> None:
    source = FactorizationRecipe(factors=2, epochs=3).fit(worlds.visible(worlds.interactions([[0], [1], [], [1]], 3)))
    assert source.retrieve(worlds.queries(worlds.query(0)), 3).tracks.tolist() == [[1, NO_TRACK, NO_TRACK]]


def test_a_background_of_foreign_tracks_is_refused(tmp_path: Path) -> None:
    fitted(TestFactorization.recipe).save(tmp_path)
    save_array(tmp_path / "background_tracks.npy", np.full(board().num_tracks, board().num_tracks, np.int32))
    with pytest.raises(SegueError, match=rf"expected numbers from 0 to {board().num_tracks - 1}, found {board().num_tracks} at place 0"):
        TestFactorization.recipe.open(tmp_path, board().num_tracks)


def test_what_diverged_is_not_kept() -> None:
    with pytest.raises(SegueError, match=r"factorization track vectors: expected finite numbers, found \d+ that are not"):
        FactorizationRecipe(factors=2, epochs=3, learning_rate=1e30).fit(board().visible)
