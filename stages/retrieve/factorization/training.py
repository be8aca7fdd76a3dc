"""Training of the logistic matrix factorization: epochs over the playlists, sampled negatives.

Input: a recipe and the training data. Output: a trained source. The loss is the one stated in `model.py`.
"""

from __future__ import annotations

import numpy as np
import torch

from features.domain import Ints
from features.progress import Progress
from stages import parallel
from stages.epochs import TrainingState, epochs_left
from stages.protocols import require_finite
from stages.resume import WarmStart
from stages.retrieve.factorization.model import Background, Factorization, FactorizationRecipe
from stages.retrieve.index.selection import with_chosen_index
from stages.retrieve.training.sampled_softmax import Sampler, SparseTables, places
from stages.retrieve.training.svd_start import starting_rows
from stages.retrieve.training.warm_rows import warm_rows
from stages.training_data import TrainingData

ROW_SCALE = 0.05
"""Of the starting rows."""


def fit_factorization(recipe: FactorizationRecipe, data: TrainingData, report: Progress) -> Factorization:
    trainer = Trainer(recipe, data)
    for epoch, random in epochs_left(data.past.left(recipe.epochs), data.seed, trainer.state(), data.past.steps):
        report("factorization", (epoch + 1) / recipe.epochs, {"loss": trainer.epoch(epoch, random)})
    vectors = require_finite("factorization track vectors", trainer.learned.tables["tracks"].numpy())
    background = Background.of(data.interactions.track_counts, recipe.background, data.seed)
    trained = Factorization(recipe, vectors, recipe.index.build(vectors, data.tracks_in_playlists, data.seed), background)
    return with_chosen_index(trained, recipe.index, data)


class Trainer:
    """The factors, and one pass over the playlists."""

    def __init__(self, recipe: FactorizationRecipe, data: TrainingData) -> None:
        self.recipe, self.interactions = recipe, data.interactions
        self.sampler = Sampler(self.interactions, recipe.batch_size, recipe.negatives, least=1)
        self.learned = SparseTables(self._start(data.seed, data.past.older), [], recipe.learning_rate)
        self._weights = torch.from_numpy(recipe.playlist_weights(self.interactions.followers))
        self._chance = torch.from_numpy(self.sampler.log_chances(without=1)).exp()

    def _start(self, seed: int, older: WarmStart | None) -> dict[str, torch.Tensor]:
        """Tracks that occur together near each other, playlists where their tracks are, and the biases that are best without factors."""
        held, dim = self.interactions, self.recipe.factors
        odds = (held.track_counts + 0.1) * held.num_tracks / (self.recipe.negative_weight * max(len(held.tracks), 1))
        biases = torch.from_numpy(np.log(odds).astype(np.float32))
        tracks = torch.cat([starting_rows(held, dim, ROW_SCALE, seed), biases[:, None]], dim=1)
        if older:
            tracks = warm_rows(tracks, older, older.source_of(Factorization).track_vectors)
        lengths = torch.from_numpy(np.maximum(held.lengths(), 1).astype(np.float32))
        mean = torch.from_numpy(held.matrix @ tracks[:, :-1].numpy()) / lengths[:, None]
        return {"playlists": torch.cat([mean, torch.zeros(held.num_playlists, 1)], dim=1), "tracks": tracks}

    def state(self) -> TrainingState:
        return TrainingState(self.learned.tables, self.learned.optimizers)

    def epoch(self, epoch: int, random: np.random.Generator) -> float:
        """The mean loss per entry over one pass; each pass takes smaller steps than the one before."""
        self.learned.slow_down(1 - epoch / self.recipe.epochs)
        losses = [self._step(batch, random) for batch in self.sampler.batches(random)]
        return sum(losses) / max(len(self.interactions.tracks), 1)

    def _step(self, batch: np.ndarray, random: np.random.Generator) -> float:
        """All workers draw the same numbers; each then works on its own share of the batch. Returns the batch's summed loss."""
        dim = self.recipe.factors
        kept = random.random((len(batch), dim), dtype=np.float32) >= self.recipe.dropout
        start, stop = parallel.shard(len(batch))
        held = [self.interactions.tracks_of(p) for p in batch[start:stop]]
        ids = {"playlists": torch.from_numpy(batch), "tracks": self.sampler.draw(held, random)}
        rows = self.learned.rows(ids)
        mask = torch.from_numpy(kept[start:stop].astype(np.float32) / np.float32(1 - self.recipe.dropout))
        playlists = rows["playlists"][start:stop]
        loss = self.loss(playlists, mask, rows["tracks"], ids["tracks"], held, self._weights[batch[start:stop]])
        entries = int(self.interactions.lengths()[batch].sum())
        return entries * self.learned.update(loss / entries, rows, ids)

    def loss(
        self,
        playlists: torch.Tensor,
        mask: torch.Tensor,
        tracks: torch.Tensor,
        sample: torch.Tensor,
        held: list[Ints],
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """The summed loss of this worker's `playlists` (b, dim + 1); `tracks` (s, dim + 1) are the rows of the tracks `sample`."""
        if not held:
            return tracks.sum() * 0
        scores = (playlists[:, :-1] * mask) @ tracks[:, :-1].T + playlists[:, -1:] + tracks[:, -1]
        lengths = torch.tensor([len(of_playlist) for of_playlist in held])
        row_of = torch.repeat_interleave(torch.arange(len(held)), lengths)
        columns = places(sample, held)
        of_place = torch.from_numpy(np.concatenate([self.recipe.entry_weights(np.arange(len(of_playlist))) for of_playlist in held]))
        squares = (playlists[row_of, :-1] ** 2).sum(1) + (tracks[:, :-1] ** 2).sum(1)[columns]
        at_held = scores[row_of, columns]
        positive = of_place * (torch.nn.functional.softplus(-at_held) + self.recipe.regularization / 2 * squares)
        negative = (torch.nn.functional.softplus(scores) / self._chance[sample]).sum(1)
        negative = negative.index_add(0, row_of, -torch.nn.functional.softplus(at_held) / self._chance[sample][columns])
        share = self.recipe.negative_weight * lengths / self.interactions.num_tracks
        loss: torch.Tensor = (weights[row_of] * positive).sum() + (weights * share * negative).sum()
        return loss
