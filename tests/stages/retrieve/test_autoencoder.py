from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from features.domain import NO_TRACK, SegueError
from stages.retrieve import autoencoder
from stages.retrieve.autoencoder import AutoencoderRecipe
from stages.retrieve.index import IndexRecipe
from tests import worlds
from tests.contracts import RetrieverContract, board, fitted

STILL = {"learning_rate": 1e-12, "kl_weight": 0.0, "dim": 6}


class TestAutoencoder(RetrieverContract):
    recipe = AutoencoderRecipe(dim=8, epochs=12, batch_size=16, negatives=64, learning_rate=0.02)
    has_vectors = True


class TestAutoencoderWithTrees(RetrieverContract):
    recipe = AutoencoderRecipe(
        dim=8,
        epochs=12,
        batch_size=16,
        negatives=1_000,
        learning_rate=0.02,
        kl_weight=0,
        index=IndexRecipe(kind="annoy", trees=20, search_nodes=10_000),
    )
    has_vectors = True


class Watched(autoencoder._Trainer):
    """Remembers which tracks every softmax ran over."""

    def __init__(self, recipe: AutoencoderRecipe) -> None:
        super().__init__(recipe, board().held, seed=1)
        self.samples: list[np.ndarray] = []

    def _loss(self, rows: dict[str, torch.Tensor], sample: np.ndarray, *more: Any) -> torch.Tensor:
        self.samples.append(sample)
        return super()._loss(rows, sample, *more)


@pytest.mark.parametrize("negatives", [284, 10_000])
def test_with_as_many_negatives_as_tracks_the_softmax_is_exact(negatives: int) -> None:
    trainer = Watched(AutoencoderRecipe(negatives=negatives, batch_size=16, **STILL))
    trainer.epoch(0)
    assert all(sample.tolist() == list(range(board().num_tracks)) for sample in trainer.samples)
    assert (trainer._log_chance == 0).all()


def test_the_loss_is_the_multinomial_one_over_the_root_of_the_length() -> None:
    trainer = autoencoder._Trainer(AutoencoderRecipe(negatives=1_000, **STILL), board().held, seed=1)
    held, shown = [board().held.tracks_of(i) for i in (0, 1)], [board().held.tracks_of(i)[:5] for i in (0, 1)]
    rows, everything = dict(trainer.tables), np.arange(board().num_tracks)
    loss = trainer._loss(rows, everything, shown, held, torch.zeros(2, 6), kl_weight=0.0)
    expected = 0.0
    for tracks, first in zip(held, shown, strict=True):
        summed = rows["in"][first].sum(0) / np.sqrt(len(first))
        hidden, _ = trainer.network(summed[None], torch.zeros(1, 6))
        likelihood = torch.log_softmax(hidden @ rows["out"][:, :-1].T + rows["out"][:, -1], dim=1)
        expected += float(-likelihood[0, tracks].detach().sum() / np.sqrt(len(tracks)))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("batch_size", "negatives", "steps"), [(4, 20, 300), (10, 100, 300), (1, 5, 300), (1_000, 1, 30)])
def test_the_chances_to_be_in_the_softmax_are_the_true_ones(batch_size: int, negatives: int, steps: int) -> None:
    trainer = Watched(AutoencoderRecipe(batch_size=batch_size, negatives=negatives, **STILL))
    while len(trainer.samples) < steps:
        trainer.epoch(0)
    found = np.zeros(board().num_tracks)
    for sample in trainer.samples:
        found[sample] += 1
    chance = trainer._log_chance.exp().numpy()
    np.testing.assert_allclose(found / len(trainer.samples), chance, atol=0.12)  # 4 standard errors at worst
    assert (found / len(trainer.samples)).mean() == pytest.approx(chance.mean(), abs=0.02)


def test_the_sampled_softmax_is_nearly_the_full_one() -> None:
    def mean_loss(negatives: int, corrected: bool = True) -> float:
        trainer = autoencoder._Trainer(AutoencoderRecipe(batch_size=4, negatives=negatives, **STILL), board().held, seed=1)
        if not corrected:
            trainer._log_chance.zero_()
        return float(np.mean([trainer.epoch(0) for _ in range(20)]))

    full, sampled, uncorrected = mean_loss(1_000), mean_loss(60), mean_loss(60, corrected=False)
    assert sampled == pytest.approx(full, rel=0.01)
    assert uncorrected < full * 0.97  # the test would see a chance that is wrong


def test_training_lowers_the_loss() -> None:
    losses: list[float] = []
    TestAutoencoder.recipe.fit(board().visible, lambda phase, done, figures: losses.append(figures["loss"]))
    assert losses[-1] < losses[0] * 0.95


def test_only_playlists_of_two_tracks_or_more_teach(tmp_path: Path) -> None:
    losses: list[float] = []
    held = worlds.interactions([[0], [1], [], [2]], 5)
    source = AutoencoderRecipe(dim=3, epochs=2).fit(worlds.visible(held), lambda phase, done, figures: losses.append(figures["loss"]))
    assert losses == [0.0, 0.0]
    assert set(source.retrieve(worlds.queries(worlds.query(0)), 5).tracks[0].tolist()) == {1, 2, NO_TRACK}


def test_what_the_encoder_is_shown_is_a_part_of_the_playlist() -> None:
    random = np.random.default_rng(0)
    held = worlds.interactions([list(range(10)), list(range(300)), [7, 3]], 300)
    firsts = 0
    for _ in range(60):
        for playlist, shown in enumerate(autoencoder._shown(held, np.arange(3), random)):
            tracks = held.tracks_of(playlist)
            assert 1 <= len(shown) <= min(len(tracks) - 1, autoencoder.LONGEST_INPUT)
            assert set(shown.tolist()) <= set(tracks.tolist())
            firsts += playlist == 1 and shown.tolist() == tracks[: len(shown)].tolist()
    assert 15 <= firsts <= 45  # half of them begin where the playlist begins


def test_a_query_is_encoded_as_in_training() -> None:
    source = fitted(TestAutoencoder.recipe)
    asked = board().questions(4)
    network = autoencoder._Network(8)
    network.load_state_dict({name: torch.from_numpy(layer) for name, layer in source.layers.items()})  # type: ignore[attr-defined]
    rows = torch.from_numpy(source.input_vectors)  # type: ignore[attr-defined]
    summed = autoencoder._summed(rows, [asked.seeds_of(i) for i in range(4)])
    hidden, _ = network(summed, torch.zeros(4, 8))  # no noise: the mean
    found = source.query_vectors(asked)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found[:, :-1], hidden.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert (found[:, -1] == 1).all()


def test_layers_of_another_shape_or_name_are_refused(tmp_path: Path) -> None:
    fitted(TestAutoencoder.recipe).save(tmp_path)
    layers = load_file(tmp_path / "layers.safetensors")
    for wrong in (layers | {"bias": np.zeros(9, np.float32)}, {name: layer for name, layer in layers.items() if name != "decode.bias"}):
        save_file(wrong, tmp_path / "layers.safetensors")
        with pytest.raises(SegueError, match=r"layers\.safetensors: expected .*bias \(8,\).*, found "):
            TestAutoencoder.recipe.open(tmp_path, board().num_tracks)
