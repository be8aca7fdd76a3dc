from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from features.catalog import Catalog
from features.domain import NO_TRACK, SegueError
from features.interactions import Interactions
from stages.resume import TrainingContext, WarmStart
from stages.retrieve.als import torch_solver
from stages.retrieve.als import training as als_training
from stages.retrieve.als.model import Als, AlsRecipe
from stages.retrieve.catalogue.related_artists import RelatedRecipe
from stages.retrieve.index.recipe import IndexRecipe
from tests import oracles, worlds
from tests.contracts import QUICK, RetrieverContract, board, fitted

NUM_TRACKS = 12
PLAYED = st.lists(st.dictionaries(st.integers(0, NUM_TRACKS - 1), st.integers(1, 5), max_size=6), min_size=2, max_size=7)


class TestAls(RetrieverContract):
    recipe = AlsRecipe(factors=8, iterations=5, alpha=10)
    has_vectors = True


class TestAlsWithTrees(RetrieverContract):
    recipe = AlsRecipe(factors=8, iterations=5, alpha=10, index=IndexRecipe(kind="annoy", n_trees=20, search_k=10_000))
    has_vectors = True


class TestAlsWithBiases(RetrieverContract):
    recipe = AlsRecipe(factors=8, iterations=5, alpha=10, biases=True)
    has_vectors = True


class TestAlsWithHalfLife(RetrieverContract):
    recipe = AlsRecipe(factors=8, iterations=5, alpha=10, half_life=30)
    has_vectors = True


def held_of(played: list[dict[int, int]]) -> Interactions:
    plays = [count for row in played for count in row.values()]
    return worlds.interactions([list(row) for row in played], NUM_TRACKS, plays=plays)


def factors(rows: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def improve(plays: sp.csr_matrix, recipe: AlsRecipe, rows: torch.Tensor, columns: torch.Tensor, fixed: int | None = None) -> float:
    """One half sweep over `rows`, in place; returns the loss without the columns' regularisation."""
    axes, gram = als_training.principal_axes(columns.T @ columns, recipe.factors)
    turned = rows @ axes
    loss = als_training.Side.of(plays, np.array([0, len(rows)]), recipe, fixed).solve(turned, columns @ axes, gram, recipe)
    rows.copy_(turned @ axes.T)
    return loss


@QUICK
@given(
    seeds=st.lists(st.integers(0, NUM_TRACKS - 1), unique=True, min_size=1),
    dim=st.integers(1, 5),
    confidence=st.sampled_from([0.5, 10.0, 100.0]),
    regularization=st.sampled_from([0.01, 0.3]),
    exponent=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_fold_in_is_the_least_squares_solution(
    seeds: list[int], dim: int, confidence: float, regularization: float, exponent: float, seed: int
) -> None:
    vectors = factors(NUM_TRACKS, dim, seed).numpy()
    recipe = AlsRecipe(factors=dim, alpha=confidence, regularization=regularization, frequency_exponent=exponent)
    source = Als(recipe, vectors, IndexRecipe().build(vectors, np.arange(NUM_TRACKS, dtype=np.int32), 0), vectors.T @ vectors)
    weight = oracles.als_weight(len(seeds), NUM_TRACKS, confidence, regularization, exponent)
    expected = oracles.als_row(dict.fromkeys(seeds, 1.0), vectors, confidence, weight)
    np.testing.assert_allclose(source.query_vectors(worlds.queries(worlds.query(*seeds)))[0], expected, rtol=5e-3, atol=5e-4)


@QUICK
@given(played=PLAYED, dim=st.integers(1, 4), seed=st.integers(0, 99), exponent=st.sampled_from([0.0, 0.5, 1.0]))
def test_enough_conjugate_gradient_steps_solve_every_row(played: list[dict[int, int]], dim: int, seed: int, exponent: float) -> None:
    recipe = AlsRecipe(factors=dim, alpha=3.0, regularization=0.1, frequency_exponent=exponent, cg_steps=3 * dim)
    rows, columns = factors(len(played), dim, seed), factors(NUM_TRACKS, dim, seed + 1)
    improve(held_of(played).matrix, recipe, rows, columns)
    for row, held in zip(rows.numpy(), played, strict=True):
        weight = oracles.als_weight(len(held), NUM_TRACKS, 3.0, 0.1, exponent)
        expected = oracles.als_row({track: float(count) for track, count in held.items()}, columns.numpy(), 3.0, weight)
        np.testing.assert_allclose(row, expected, rtol=5e-3, atol=5e-4)


@QUICK
@given(played=PLAYED, dim=st.integers(1, 4), seed=st.integers(0, 99))
def test_biases_are_solved_for_and_their_counterparts_stay_1(played: list[dict[int, int]], dim: int, seed: int) -> None:
    """A row's factors and bias are the ridge regression of 1 - the other side's bias on (its factors, 1)."""
    recipe = AlsRecipe(factors=dim, alpha=3.0, regularization=0.1, cg_steps=3 * dim + 3, biases=True)
    rows, columns = factors(len(played), dim + 2, seed), factors(NUM_TRACKS, dim + 2, seed + 1)
    rows[:, dim], columns[:, dim + 1] = 1, 1
    improve(held_of(played).matrix, recipe, rows, columns, recipe.fixed_of_playlists)
    others, biases = np.delete(columns.numpy(), dim, axis=1), columns.numpy()[:, dim]
    source = Als(recipe, columns.numpy(), None, columns.numpy().T @ columns.numpy())  # type: ignore[arg-type]
    for row, held in zip(rows.numpy(), played, strict=True):
        weight = oracles.als_weight(len(held), NUM_TRACKS, 3.0, 0.1, 1.0)
        expected = oracles.als_row({track: float(count) for track, count in held.items()}, others, 3.0, weight, biases)
        np.testing.assert_allclose(np.delete(row, dim), expected, rtol=1e-2, atol=2e-3)
        assert row[dim] == 1
        if held and set(held.values()) == {1}:
            folded = source.query_vectors(worlds.queries(worlds.query(*held)))[0]
            np.testing.assert_allclose(np.delete(folded, dim), expected, rtol=1e-2, atol=2e-3)
            assert folded[dim] == 1


def test_with_a_half_life_the_last_tracks_count_more() -> None:
    recipe = AlsRecipe(factors=1, half_life=2)
    np.testing.assert_allclose(recipe.recency(np.array([0, 3, 3, 4])), [0.5, 2**-0.5, 1, 1], rtol=1e-6)
    held = worlds.interactions([[0, 1, 1], [2, 3], [0, 1], [2, 3]], 4)
    source = AlsRecipe(factors=2, alpha=20, regularization=0.1, iterations=15, half_life=0.5).fit(worlds.visible(held))
    found = source.retrieve(worlds.queries(worlds.query(0, 2), worlds.query(2, 0)), 1)
    assert found.tracks.tolist() == [[3], [1]]


@QUICK
@given(played=PLAYED, seed=st.integers(0, 99), exponent=st.sampled_from([0.0, 0.5, 1.0]))
def test_the_loss_is_that_of_hu_koren_and_volinsky_and_never_goes_up(played: list[dict[int, int]], seed: int, exponent: float) -> None:
    """What a half sweep reports leaves out the regularisation of the other side; the whole is what must not go up."""
    recipe = AlsRecipe(factors=3, alpha=4.0, regularization=0.05, frequency_exponent=exponent)
    held = held_of(played)
    plays = held.matrix.toarray()
    playlists, tracks = factors(len(played), 3, seed) * 0.1, factors(NUM_TRACKS, 3, seed + 1) * 0.1
    wholes = []
    for _ in range(6):
        for matrix, rows, columns in ((held.matrix, playlists, tracks), (held.matrix.T.tocsr(), tracks, playlists)):
            reported = improve(matrix, recipe, rows, columns)
            error = oracles.als_loss(plays, playlists.numpy(), tracks.numpy(), 4.0)
            own, others = (
                sum(
                    oracles.als_weight(count, across, 4.0, 0.05, exponent) * float(row.double() @ row.double())
                    for count, row in zip(counts, vectors, strict=True)
                )
                for counts, across, vectors in (
                    (np.count_nonzero(plays if rows is playlists else plays.T, axis=1), len(columns), rows),
                    (np.count_nonzero(plays if columns is playlists else plays.T, axis=1), len(rows), columns),
                )
            )
            assert reported == pytest.approx(error + own, rel=1e-4, abs=1e-3)
            wholes.append(error + own + others)
    assert all(later <= earlier * (1 + 1e-5) + 1e-4 for earlier, later in pairwise(wholes))


@pytest.mark.parametrize("biases", [False, True])
def test_the_loss_of_a_fit_never_goes_up(biases: bool) -> None:
    losses: list[float] = []
    recipe = AlsRecipe(factors=8, iterations=25, biases=biases)
    recipe.fit(board().visible, lambda phase, done, figures: losses.append(figures["loss"]))
    assert len(losses) == 25
    assert losses[-1] < losses[0]
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in pairwise(losses))


@pytest.mark.parametrize(("plays", "wanted"), [([1, 30, 1, 1], 1), ([1, 1, 1, 30], 2)])
def test_plays_raise_confidence(plays: list[float], wanted: int) -> None:
    held = worlds.interactions([[0, 1], [0, 2]], 4, plays=plays)
    source = AlsRecipe(factors=1, alpha=2.0, regularization=0.1, iterations=20).fit(worlds.visible(held))
    assert source.retrieve(worlds.queries(worlds.query(0)), 1).tracks.tolist() == [[wanted]]


def test_a_playlist_folded_in_is_the_playlist_that_was_fitted() -> None:
    """With one entry a cell and the tracks as they stand, a known playlist's own vector is the fold-in of its tracks."""
    recipe = AlsRecipe(factors=4, alpha=10.0, cg_steps=20)
    source = recipe.model_copy(update={"iterations": 3}).fit(board().visible)
    playlists = torch.zeros(board().held.num_playlists, 4)
    improve(board().held.matrix, recipe, playlists, torch.from_numpy(source.track_vectors))
    np.testing.assert_allclose(source.query_vectors(board().questions(10)), playlists[:10].numpy(), rtol=1e-3, atol=1e-4)


def test_all_seeds_count_and_their_order_does_not() -> None:
    source = fitted(TestAls.recipe)
    seeds = np.random.default_rng(0).permutation(board().num_held)[:250]
    forth, back, fewer = source.query_vectors(  # type: ignore[attr-defined]
        worlds.queries(worlds.query(*seeds), worlds.query(*seeds[::-1]), worlds.query(*seeds[1:]))
    )
    np.testing.assert_allclose(forth, back, rtol=1e-3, atol=1e-5)
    assert np.abs(forth - fewer).max() > 1e-4


@pytest.mark.parametrize("recipe", [AlsRecipe(factors=4), AlsRecipe(factors=4, biases=True, alpha=3.0)])
def test_a_device_solves_as_the_loops_do_in_blocks_of_any_size(recipe: AlsRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = board().held.matrix
    rows, columns = (factors(count, recipe.width, seed) for seed, count in enumerate(matrix.shape))
    by_loops, whole, in_blocks = rows.clone(), rows.clone(), rows.clone()
    loss = improve(matrix, recipe, by_loops, columns, recipe.fixed_of_playlists)
    monkeypatch.setattr(als_training.parallel, "device", lambda: torch.device("meta"))
    monkeypatch.setattr(als_training, "solve_blocks", lambda *arrays: torch_solver.solve_blocks(*arrays[:-1], torch.device("cpu")))
    assert improve(matrix, recipe, whole, columns, recipe.fixed_of_playlists) == pytest.approx(loss, rel=1e-4)
    monkeypatch.setattr(torch_solver, "BLOCK_ENTRIES", 100)
    assert improve(matrix, recipe, in_blocks, columns, recipe.fixed_of_playlists) == pytest.approx(loss, rel=1e-4)
    torch.testing.assert_close(whole, by_loops, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(in_blocks, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("plays", [float("inf"), float("nan")])
def test_what_diverged_is_not_kept(plays: float) -> None:
    held = worlds.interactions([[0, 1], [0, 2]], 3, plays=[plays, 1, 1, 1])
    with pytest.raises(SegueError, match=r"als track vectors: expected finite numbers, found \d+ that are not"):
        AlsRecipe(factors=2, iterations=2).fit(worlds.visible(held))


@pytest.mark.parametrize("recipe", [AlsRecipe(factors=8, iterations=12), RelatedRecipe(als=AlsRecipe(factors=4, iterations=12))])
def test_three_sweeps_from_an_older_model_are_worth_more_than_eight_from_none(recipe: AlsRecipe | RelatedRecipe) -> None:
    """Of nine tenths of the playlists, whose tracks stood in another order; two tracks are new."""
    visible = board().visible
    held, backwards = visible.interactions, np.arange(visible.num_tracks, dtype=np.int32)[::-1]
    some = held.part(0, held.num_playlists * 9 // 10)
    before = replace(visible, interactions=replace(some, tracks=backwards[some.tracks]), catalog=Catalog(visible.catalog.table[::-1]))
    rows = backwards.copy()
    rows[:2] = NO_TRACK
    older = WarmStart(recipe.fit(before), rows)

    def losses(past: TrainingContext) -> list[float]:
        told: list[float] = []
        source = recipe.fit(replace(visible, past=past), lambda _, done, figures: told.append(figures["loss"]))
        assert source.track_vectors[held.track_counts > 0].any(axis=1).all()
        return told

    warm, whole = losses(TrainingContext(older=older, effort=0.25)), losses(TrainingContext())
    assert (len(warm), len(whole)) == (3, 12)
    assert warm[-1] < whole[7]
