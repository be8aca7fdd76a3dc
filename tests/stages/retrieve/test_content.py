from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from features.domain import NO_TRACK, SegueError
from stages.retrieve import content
from stages.retrieve.content import ContractiveRecipe
from stages.retrieve.index import IndexRecipe
from tests import worlds
from tests.contracts import QUICK, RetrieverContract, board, fitted


class TestContent(RetrieverContract):
    recipe = ContractiveRecipe(dim=6, epochs=8, batch_size=64, learning_rate=0.01)
    has_vectors = True
    proposes_cold = True
    needs_nobody = True
    needs_content = True


class TestContentWithTrees(RetrieverContract):
    recipe = ContractiveRecipe(
        dim=6, epochs=8, batch_size=64, learning_rate=0.01, index=IndexRecipe(kind="annoy", trees=20, search_nodes=10_000)
    )
    has_vectors = True
    proposes_cold = True
    needs_nobody = True
    needs_content = True


@QUICK
@given(features=st.integers(1, 5), dim=st.integers(1, 4), rows=st.integers(1, 4), seed=st.integers(0, 999))
def test_the_jacobian_penalty_is_what_autograd_finds(features: int, dim: int, rows: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = content._ContractiveAutoencoder(features, dim)
    batch = torch.randn(rows, features)
    expected = sum(float((torch.autograd.functional.jacobian(model.encode, row[None]) ** 2).sum()) for row in batch)
    penalty = float((model.loss(batch, 1.0) - model.loss(batch, 0.0)).detach())
    assert penalty == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_the_reconstruction_error_is_the_mean_square() -> None:
    torch.manual_seed(0)
    model, batch = content._ContractiveAutoencoder(3, 2), torch.rand(4, 3)
    shown = torch.sigmoid(model.decoder(torch.relu(model.encoder(batch))))
    expected = ((shown - batch) ** 2).sum() / 3
    assert float(model.loss(batch, 0.0).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_penalty_is_learned_from() -> None:
    torch.manual_seed(0)
    model = content._ContractiveAutoencoder(3, 2)
    (model.loss(torch.rand(4, 3), 1.0) - model.loss(torch.rand(4, 3), 0.0)).backward()
    assert model.encoder.weight.grad is not None
    assert model.encoder.weight.grad.abs().sum() > 0


def test_vectors_have_length_1_so_that_scores_are_cosines() -> None:
    source = fitted(TestContent.recipe)
    lengths = np.linalg.norm(source.track_vectors, axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    scores = source.retrieve(board().questions(), 20).scores
    assert (np.abs(scores) <= 1 + 1e-5).all()


def test_a_track_that_nobody_holds_has_neighbours_and_is_one() -> None:
    source = fitted(TestContent.recipe)
    cold = range(board().num_held, board().num_tracks)
    found = source.retrieve(worlds.queries(*(worlds.query(track) for track in cold)), 10).tracks
    assert (found % 2 == np.array(cold)[:, None] % 2).all()
    even = source.retrieve(worlds.queries(worlds.query(0, 2, 4)), board().num_tracks).tracks[0, : board().num_tracks // 2 - 3]
    assert set(range(board().num_held, board().num_tracks, 2)) <= set(even.tolist())


def test_playlists_make_no_difference() -> None:
    nobody = board().but(interactions=worlds.interactions([[]], board().num_tracks))
    found = TestContent.recipe.fit(nobody).retrieve(board().questions(), 10)
    np.testing.assert_array_equal(found.tracks, fitted(TestContent.recipe).retrieve(board().questions(), 10).tracks)


def test_columns_are_brought_between_0_and_1() -> None:
    scaled = content._to_unit_range(np.array([[-3, 5, 0], [1, 5, 10], [-1, 5, 1]], np.float32))
    np.testing.assert_allclose(scaled, [[0, 0, 0], [1, 0, 1], [0.5, 0, 0.1]], rtol=1e-6)
    assert scaled.dtype == np.float32


def test_tracks_that_all_sound_alike_say_nothing() -> None:
    source = TestContent.recipe.fit(board().but(content=np.ones((board().num_tracks, 3), np.float32)))
    assert (source.retrieve(board().questions(), 5).tracks == NO_TRACK).all()


def test_content_that_is_no_number_is_not_learned_from() -> None:
    with pytest.raises(SegueError, match="content vectors: expected finite numbers, found"):
        TestContent.recipe.fit(board().but(content=np.full((board().num_tracks, 2), np.nan, np.float32)))
