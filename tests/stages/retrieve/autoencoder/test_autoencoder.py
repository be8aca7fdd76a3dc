from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from features.domain import NO_TRACK, SegueError
from stages.retrieve.autoencoder import training
from stages.retrieve.autoencoder.model import AutoencoderRecipe
from stages.retrieve.index.recipe import IndexRecipe
from tests import worlds
from tests.contracts import RetrieverContract, board, fitted

STILL = {"learning_rate": 1e-12, "kl_weight": 0.0, "dim": 6}


QUICKLY: dict[str, Any] = {"dim": 8, "epochs": 12, "batch_size": 16, "negatives": 64, "learning_rate": 0.02}


class TestAutoencoder(RetrieverContract):
    recipe = AutoencoderRecipe(**QUICKLY)
    has_vectors = True


class TestAutoencoderWithTrees(RetrieverContract):
    recipe = AutoencoderRecipe(
        **QUICKLY | {"negatives": 1_000, "kl_weight": 0},
        index=IndexRecipe(kind="annoy", n_trees=20, search_k=10_000),
    )
    has_vectors = True


class TestRegularAutoencoder(RetrieverContract):
    recipe = AutoencoderRecipe(variant="regular", input_dropout=0.5, **QUICKLY)
    has_vectors = True


class TestHybridAutoencoder(RetrieverContract):
    recipe = AutoencoderRecipe(content=True, **QUICKLY)
    has_vectors = True


class Watched(training.Trainer):
    """Remembers which tracks every softmax ran over."""

    def __init__(self, recipe: AutoencoderRecipe) -> None:
        super().__init__(recipe, board().but(seed=1))
        self.samples: list[np.ndarray] = []

    def loss(self, rows: torch.Tensor, sample: torch.Tensor, *more: Any) -> torch.Tensor:
        self.samples.append(sample.numpy())
        return super().loss(rows, sample, *more)


@pytest.mark.parametrize("negatives", [284, 10_000])
def test_with_as_many_negatives_as_tracks_the_softmax_is_exact(negatives: int) -> None:
    trainer = Watched(AutoencoderRecipe(negatives=negatives, batch_size=16, **STILL))
    trainer.epoch(0, np.random.default_rng(0))
    assert all(sample.tolist() == list(range(board().num_tracks)) for sample in trainer.samples)
    assert (trainer.log_chance == 0).all()


def test_the_loss_is_the_multinomial_one_over_the_root_of_the_length() -> None:
    trainer = training.Trainer(AutoencoderRecipe(negatives=1_000, **STILL), board().but(seed=1))
    held, shown = [board().held.tracks_of(i) for i in (0, 1)], [board().held.tracks_of(i)[:5] for i in (0, 1)]
    rows, everything = trainer.learned.tables["rows"], torch.arange(board().num_tracks)
    loss = trainer.loss(rows, everything, shown, held, torch.zeros(2, 6), kl_weight=0.0)
    expected = 0.0
    for tracks, first in zip(held, shown, strict=True):
        summed = rows[first, :-1].sum(0) / np.sqrt(len(first))
        hidden, _ = trainer.network(summed[None], torch.zeros(1, 6))
        likelihood = torch.log_softmax(hidden @ rows[:, :-1].T + rows[:, -1], dim=1)
        expected += float(-likelihood[0, tracks].detach().sum() / np.sqrt(len(tracks)))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("batch_size", "negatives", "steps"), [(4, 20, 300), (10, 100, 300), (1, 5, 300), (1_000, 1, 30)])
def test_the_chances_to_be_in_the_softmax_are_the_true_ones(batch_size: int, negatives: int, steps: int) -> None:
    trainer = Watched(AutoencoderRecipe(batch_size=batch_size, negatives=negatives, **STILL))
    random = np.random.default_rng(0)
    while len(trainer.samples) < steps:
        trainer.epoch(0, random)
    found = np.zeros(board().num_tracks)
    for sample in trainer.samples:
        found[sample] += 1
    chance = trainer.log_chance.exp().numpy()
    np.testing.assert_allclose(found / len(trainer.samples), chance, atol=0.12)  # 4 standard errors at worst
    assert (found / len(trainer.samples)).mean() == pytest.approx(chance.mean(), abs=0.02)


def test_the_sampled_softmax_is_nearly_the_full_one() -> None:
    def mean_loss(negatives: int, corrected: bool = True) -> float:
        trainer = training.Trainer(AutoencoderRecipe(batch_size=4, negatives=negatives, **STILL), board().but(seed=1))
        if not corrected:
            trainer.log_chance.zero_()
        random = np.random.default_rng(0)
        return float(np.mean([trainer.epoch(0, random) for _ in range(20)]))

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


def test_what_the_encoder_is_shown_is_what_requests_hold() -> None:
    random = np.random.default_rng(0)
    held = worlds.interactions([list(range(10)), list(range(300)), [7, 3]], 300)
    firsts = nothing = 0
    for _ in range(200):
        for playlist, shown in enumerate(training.shown_tracks(held, np.arange(3), 0.0, random)):
            tracks = held.tracks_of(playlist)
            assert len(shown) <= min(len(tracks) - 1, training.LONGEST_INPUT)
            assert set(shown.tolist()) <= set(tracks.tolist())
            nothing += playlist == 1 and not len(shown)
            firsts += playlist == 1 and len(shown) > 0 and shown.tolist() == tracks[: len(shown)].tolist()
    assert 60 <= firsts <= 120  # nearly half of them begin where the playlist begins
    assert 8 <= nothing <= 35


def test_dropout_leaves_out_a_share_of_what_is_shown() -> None:
    held = worlds.interactions([list(range(200))] * 300, 200)
    seen, left = (sum(map(len, training.shown_tracks(held, np.arange(300), dropout, np.random.default_rng(1)))) for dropout in (0.0, 0.75))
    assert left == pytest.approx(seen / 4, rel=0.1)


def test_a_batch_of_which_nothing_is_shown_teaches_what_is_popular() -> None:
    """All that is left to learn from is the biases."""
    trainer = training.Trainer(AutoencoderRecipe(negatives=1_000, dim=6, learning_rate=0.05), board().but(seed=1))
    nothing, held = [np.empty(0, np.int32)] * 60, [board().held.tracks_of(p) for p in range(60)]
    ids = {"rows": torch.arange(board().num_tracks)}
    for _ in range(60):
        rows = trainer.learned.rows(ids)
        trainer.learned.update(trainer.loss(rows["rows"], ids["rows"], nothing, held, torch.zeros(60, 6), 0.0) / 60, rows, ids)
    with torch.no_grad():
        hidden, _ = trainer.network(torch.zeros(1, 6), torch.zeros(1, 6))
    vectors = torch.from_numpy(trainer.track_vectors())
    found = torch.softmax(hidden @ vectors[:, :-1].T + vectors[:, -1], dim=1)[0].numpy()
    np.testing.assert_allclose(found, board().held.track_counts / len(board().held.tracks), atol=3e-3)


@pytest.mark.parametrize("recipe", [TestAutoencoder.recipe, TestRegularAutoencoder.recipe, TestHybridAutoencoder.recipe])
def test_a_query_is_encoded_as_in_training(recipe: AutoencoderRecipe) -> None:
    source = fitted(recipe)
    asked = board().questions(4)
    network = training.Network(8, 0, recipe.variant == "variational")
    layers = {name: torch.from_numpy(layer) for name, layer in source.layers.items()}  # type: ignore[attr-defined]
    network.load_state_dict(layers | {"of_content": torch.zeros(0, 8)})
    rows = torch.from_numpy(source.track_vectors[:, :-1])  # type: ignore[index]
    summed = training.summed_rows(rows, torch.arange(len(rows)), [asked.seeds_of(i) for i in range(4)])
    hidden, _ = network(summed, torch.zeros(4, 8))  # no noise: the mean
    found = source.query_vectors(asked)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found[:, :-1], hidden.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert (found[:, -1] == 1).all()


def test_a_regular_one_has_neither_noise_nor_kl(tmp_path: Path) -> None:
    network = training.Network(4, 0, variational=False)
    quiet, kl = network(torch.ones(2, 4), torch.zeros(2, 4))
    loud, _ = network(torch.ones(2, 4), torch.ones(2, 4))
    assert torch.equal(quiet, loud)
    assert kl.tolist() == [0, 0]
    fitted(TestRegularAutoencoder.recipe).save(tmp_path)
    assert not any("variance" in name for name in load_file(tmp_path / "layers.safetensors"))


def test_the_other_variant_is_refused(tmp_path: Path) -> None:
    fitted(TestRegularAutoencoder.recipe).save(tmp_path)
    with pytest.raises(SegueError, match=r"layers\.safetensors: expected .*log_variance\.weight.*, found "):
        TestAutoencoder.recipe.open(tmp_path, board().num_tracks)


def test_a_hybrid_understands_tracks_that_nobody_holds() -> None:
    cold = range(board().num_held, board().num_tracks)
    asked = worlds.queries(*(worlds.query(track) for track in cold))
    found = fitted(TestHybridAutoencoder.recipe).retrieve(asked, 20).tracks
    assert (found % 2 == np.array(cold)[:, None] % 2).mean() > 0.8
    blind = fitted(TestAutoencoder.recipe).retrieve(asked, 20).tracks
    assert (blind == blind[0]).all()  # all it can say is what is popular


def test_the_last_coordinate_says_how_popular_a_track_is() -> None:
    for recipe in (TestAutoencoder.recipe, TestRegularAutoencoder.recipe, TestHybridAutoencoder.recipe):
        biases = fitted(recipe).track_vectors[:, -1]  # type: ignore[index]
        assert biases[board().num_held :].max() < biases[: board().num_held].min()


def test_layers_of_another_shape_or_name_are_refused(tmp_path: Path) -> None:
    fitted(TestAutoencoder.recipe).save(tmp_path)
    layers = load_file(tmp_path / "layers.safetensors")
    for wrong in (layers | {"bias": np.zeros(9, np.float32)}, {name: layer for name, layer in layers.items() if name != "decode.bias"}):
        save_file(wrong, tmp_path / "layers.safetensors")
        with pytest.raises(SegueError, match=r"layers\.safetensors: expected .*bias \(8,\).*, found "):
            TestAutoencoder.recipe.open(tmp_path, board().num_tracks)
