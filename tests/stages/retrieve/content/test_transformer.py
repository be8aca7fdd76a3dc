from __future__ import annotations

import numpy as np
import pytest
import torch

from features.domain import SegueError
from stages.retrieve.content.recipes import TransformerRecipe
from stages.retrieve.content.training.transformer import FeatureTransformer
from tests import worlds
from tests.contracts import RetrieverContract, board

SMALL = TransformerRecipe(dim=8, layers=1, heads=2, epochs=8, batch_size=64, learning_rate=0.01)


class TestTransformer(RetrieverContract):
    recipe = SMALL
    has_vectors = True
    proposes_cold = True
    needs_nobody = True
    needs_content = True


def model(*features: int) -> FeatureTransformer:
    torch.manual_seed(1)
    return FeatureTransformer(np.array(features, np.int32), 8, 1, 2)


def test_the_columns_of_a_feature_are_one_token() -> None:
    tokens = model(0, 1, 1)
    [[first, second]] = tokens.tokens(torch.tensor([[2.0, 3.0, -1.0]]))
    torch.testing.assert_close(first, 2 * tokens.embedding[0])
    torch.testing.assert_close(second, 3 * tokens.embedding[1] - tokens.embedding[2])


def test_a_masked_feature_is_not_seen() -> None:
    transformer, masked = model(0, 1), torch.tensor([[False, True]])
    one, other = (transformer(torch.tensor([[1.0, value]]), masked) for value in (5.0, -5.0))
    assert torch.equal(one, other)
    assert not torch.equal(one, transformer(torch.tensor([[1.0, 5.0]])))


def test_the_loss_is_the_squared_error_over_the_features() -> None:
    transformer, batch = model(0, 1, 1), torch.randn(5, 3)
    nothing_masked = torch.zeros(5, 2, dtype=torch.bool)
    expected = ((transformer.decoder(transformer(batch)) - batch) ** 2).sum() / 2
    torch.testing.assert_close(transformer.loss(batch, nothing_masked), expected)


def test_a_masked_feature_is_learned_from_the_others() -> None:
    """Four columns that say the same: whoever sees one can tell the others, and mean 0 is as wrong as 1."""
    one = np.random.default_rng(0).normal(size=(400, 1)).astype(np.float32)
    losses: list[float] = []
    recipe = SMALL.model_copy(update={"epochs": 15, "masked": 0.5})
    recipe.fit(_of_content(np.repeat(one, 4, axis=1)), lambda phase, done, figures: losses.append(figures["loss"]))
    assert losses[0] > 0.5
    assert losses[-1] < 0.25


def test_all_tracks_get_a_vector_though_an_epoch_sees_few() -> None:
    source = SMALL.model_copy(update={"tracks_per_epoch": 32}).fit(board().visible)
    assert source.track_vectors.any(axis=1).all()


def test_features_are_told_apart_by_their_names() -> None:
    random = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    together, apart = (SMALL.fit(_of_content(random, names)).track_vectors for names in (("key=0", "key=1", "energy"), ()))
    assert together.shape == apart.shape
    assert not np.allclose(together, apart)


def _of_content(values: np.ndarray, names: tuple[str, ...] = ()) -> object:
    return worlds.visible(worlds.interactions([[]], len(values)), content=values, names=names)


def test_heads_share_the_dimensions() -> None:
    with pytest.raises(SegueError, match="multiple of heads, expected so many times 3, found 8"):
        TransformerRecipe(dim=8, heads=3)


def test_content_that_is_no_number_is_not_learned_from() -> None:
    with pytest.raises(SegueError, match="content vectors: expected finite numbers, found"):
        SMALL.fit(board().but(content=np.full((board().num_tracks, 2), np.nan, np.float32)))
