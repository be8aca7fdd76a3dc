from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from features.domain import SegueError
from stages.retrieve.content.recipes import ContractiveRecipe
from stages.retrieve.content.training.contractive import ContractiveAutoencoder, to_unit_range
from tests.contracts import QUICK, RetrieverContract, board


class TestContractive(RetrieverContract):
    recipe = ContractiveRecipe(dim=6, epochs=8, batch_size=64, learning_rate=0.01)
    has_vectors = True
    proposes_cold = True
    needs_nobody = True
    needs_content = True


class TestDeepContractive(RetrieverContract):
    recipe = ContractiveRecipe(dim=6, hidden_layers=3, epochs=15, batch_size=32, learning_rate=0.01)
    has_vectors = True
    proposes_cold = True
    needs_nobody = True
    needs_content = True


@QUICK
@given(features=st.integers(1, 5), dim=st.integers(1, 4), layers=st.integers(1, 4), rows=st.integers(1, 4), seed=st.integers(0, 999))
def test_the_jacobian_penalty_is_what_autograd_finds(features: int, dim: int, layers: int, rows: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = ContractiveAutoencoder(features, dim, layers)
    batch = torch.randn(rows, features)
    expected = sum(float((torch.autograd.functional.jacobian(model.encode, row[None]) ** 2).sum()) for row in batch)
    penalty = float((model.loss(batch, 1.0) - model.loss(batch, 0.0)).detach())
    assert penalty == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_the_reconstruction_error_is_the_mean_square() -> None:
    torch.manual_seed(0)
    model, batch = ContractiveAutoencoder(3, 2, 1), torch.rand(4, 3)
    shown = torch.sigmoid(model.decoder(model.encode(batch)))
    expected = ((shown - batch) ** 2).sum() / 3
    assert float(model.loss(batch, 0.0).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_penalty_is_learned_from(layers: int) -> None:
    torch.manual_seed(0)
    model = ContractiveAutoencoder(3, 16, layers)
    (model.loss(torch.rand(4, 3), 1.0) - model.loss(torch.rand(4, 3), 0.0)).backward()
    gradient = model.encoder[0].weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_training_lowers_the_loss_it_reports() -> None:
    losses: list[float] = []
    recipe = ContractiveRecipe(dim=4, epochs=6, batch_size=4, learning_rate=0.01)
    recipe.fit(board().visible, lambda phase, done, figures: losses.append(figures["loss"]))
    assert len(losses) == 6
    assert losses[-1] < losses[0] / 2


def test_columns_are_brought_between_0_and_1() -> None:
    scaled = to_unit_range(np.array([[-3, 5, 0], [1, 5, 10], [-1, 5, 1]], np.float32)).numpy()
    np.testing.assert_allclose(scaled, [[0, 0, 0], [1, 0, 1], [0.5, 0, 0.1]], rtol=1e-6)
    assert scaled.dtype == np.float32


def test_content_that_is_no_number_is_not_learned_from() -> None:
    with pytest.raises(SegueError, match="content vectors: expected finite numbers, found"):
        TestContractive.recipe.fit(board().but(content=np.full((board().num_tracks, 2), np.nan, np.float32)))
