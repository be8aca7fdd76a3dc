"""A fit that is cut off after any of its epochs, and started again, ends where nobody cut it off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.epochs import TrainingState, epochs_left
from stages.protocols import Retriever
from stages.resume import NO_CHECKPOINTS, CheckpointStore, TrainingContext
from stages.retrieve.autoencoder.model import AutoencoderRecipe
from stages.retrieve.content.recipes import ContractiveRecipe, TransformerRecipe
from stages.retrieve.factorization.model import FactorizationRecipe
from stages.retrieve.recipe import Recipe
from stages.training_data import TrainingData
from tests.contracts import board
from tests.steps import CutOffError, Remembered

EPOCHS = 3
RECIPES: dict[str, Recipe] = {
    "autoencoder": AutoencoderRecipe(dim=6, epochs=EPOCHS, batch_size=32, negatives=50),
    "regular hybrid": AutoencoderRecipe(dim=6, epochs=EPOCHS, batch_size=32, negatives=50, variant="regular", content=True),
    "factorization": FactorizationRecipe(factors=6, epochs=EPOCHS, batch_size=32, negatives=50),
    "contractive": ContractiveRecipe(dim=4, epochs=EPOCHS),
    "deep contractive": ContractiveRecipe(dim=4, hidden_layers=3, epochs=EPOCHS),
    "transformer": TransformerRecipe(dim=8, layers=1, heads=2, epochs=EPOCHS, tracks_per_epoch=128),
}


def with_steps(visible: TrainingData, steps: CheckpointStore) -> TrainingData:
    return replace(visible, past=TrainingContext(steps))


def assert_same(one: Retriever, other: Retriever) -> None:
    np.testing.assert_array_equal(one.track_vectors, other.track_vectors)
    first, second = (source.retrieve(board().questions(), 20) for source in (one, other))
    np.testing.assert_array_equal(first.tracks, second.tracks)
    np.testing.assert_array_equal(first.scores, second.scores)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("after", range(1, EPOCHS + 1))
def test_a_fit_that_was_cut_off_ends_where_an_undisturbed_one_does(name: str, after: int) -> None:
    steps, visible = Remembered(cut_off_after=after), board().visible
    with pytest.raises(CutOffError):
        RECIPES[name].fit(with_steps(visible, steps))
    assert steps.kept is not None
    assert steps.kept.done == after
    heard: list[float] = []
    again = RECIPES[name].fit(with_steps(visible, steps), lambda phase, done, figures: heard.append(done))
    assert heard == [(epoch + 1) / EPOCHS for epoch in range(after, EPOCHS)]
    assert_same(again, RECIPES[name].fit(visible))


@pytest.mark.parametrize("name", RECIPES)
def test_it_may_be_cut_off_after_every_epoch(name: str) -> None:
    steps, visible = Remembered(), board().visible
    for _ in range(EPOCHS):
        steps.cut_off_after = 1
        with pytest.raises(CutOffError):
            RECIPES[name].fit(with_steps(visible, steps))
    assert_same(RECIPES[name].fit(with_steps(visible, steps)), RECIPES[name].fit(visible))


@pytest.mark.parametrize("dense", [True, False])
def test_the_state_is_all_that_the_next_step_depends_on(dense: bool) -> None:
    """Moments and the count of steps too, in the very numbers."""

    def state() -> TrainingState:
        weights = torch.nn.Parameter(torch.linspace(-1, 1, 7))
        return TrainingState({"weights": weights}, [(torch.optim.Adam if dense else torch.optim.SparseAdam)([weights], lr=0.1)])

    def step(of: TrainingState, gradient: float) -> None:
        values = torch.full((7,), gradient) * torch.arange(7)
        of.tensors["weights"].grad = values if dense else values.to_sparse()
        of.optimizers[0].step()

    one, other = state(), state()
    for gradient in (0.3, -0.1):
        step(one, gradient)
    other.restore({name: array.copy() for name, array in one.arrays().items()})
    for gradient in (0.7, 0.2):
        step(one, gradient)
        step(other, gradient)
    assert one.arrays().keys() == other.arrays().keys()
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(other.arrays()[name], array, err_msg=name)


def test_a_kept_state_is_not_what_is_learned_in() -> None:
    weights = torch.zeros(3)
    state, kept = TrainingState({"weights": weights}, []), np.ones(3, np.float32)
    state.restore({"weights": kept})
    weights += 1
    assert (kept.tolist(), weights.tolist()) == ([1, 1, 1], [2, 2, 2])


def test_every_epoch_draws_from_a_generator_of_its_own() -> None:
    def drawn(planned: range, seed: int) -> dict[int, float]:
        return {epoch: random.random() for epoch, random in epochs_left(planned, seed, TrainingState({}, []), NO_CHECKPOINTS)}

    whole = drawn(range(4), seed=1)
    assert len(set(whole.values())) == 4
    assert drawn(range(2, 4), seed=1) == {epoch: whole[epoch] for epoch in (2, 3)}
    assert not set(whole.values()) & set(drawn(range(4), seed=2).values())
