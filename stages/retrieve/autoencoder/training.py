"""Autoencoder training: epochs over the playlists, a sampled softmax over the tracks.

Input: a recipe and the training data. Output: a trained source, its rows and layers in plain arrays.
"""

from __future__ import annotations

import numpy as np
import torch

from features.domain import Floats, Ints
from features.interactions import Interactions
from features.progress import Progress
from stages import parallel
from stages.epochs import TrainingState, epochs_left
from stages.protocols import require_finite
from stages.resume import WarmStart
from stages.retrieve.autoencoder.model import Autoencoder, AutoencoderRecipe, layer_shapes
from stages.retrieve.index.selection import with_chosen_index
from stages.retrieve.training.sampled_softmax import Sampler, SparseTables, places
from stages.retrieve.training.svd_start import starting_rows
from stages.retrieve.training.warm_rows import linear_map, warm_rows
from stages.training_data import TrainingData

LONGEST_INPUT = 250
"""Tracks of one playlist shown to the encoder at once."""
SHOWN_NONE = 0.1
"""Share of the playlists of which nothing is shown: of the ten request shapes one has no tracks."""
ROW_SCALE = 0.1
"""Of the starting rows."""


def fit_autoencoder(recipe: AutoencoderRecipe, data: TrainingData, report: Progress) -> Autoencoder:
    trainer = Trainer(recipe, data)
    for epoch, random in epochs_left(data.past.left(recipe.epochs), data.seed, trainer.state(), data.past.steps):
        report("autoencoder", (epoch + 1) / recipe.epochs, {"loss": trainer.epoch(epoch, random)})
    vectors, needed = require_finite("autoencoder track vectors", trainer.track_vectors()), layer_shapes(recipe)
    layers = {name: tensor.numpy().copy() for name, tensor in trainer.network.state_dict().items() if name in needed}
    trained = Autoencoder(recipe, vectors, recipe.index.build(vectors, data.tracks_in_playlists, data.seed), layers)
    return with_chosen_index(trained, recipe.index, data)


class Network(torch.nn.Module):
    """Everything between the rows of the encoder and those of the decoder."""

    def __init__(self, dim: int, num_features: int, variational: bool) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(dim))
        self.mean, self.decode = torch.nn.Linear(dim, dim), torch.nn.Linear(dim, dim)
        for layer in (self.mean, self.decode):  # the starting rows already are near what they must be decoded to
            torch.nn.init.eye_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        self.log_variance = torch.nn.Linear(dim, dim) if variational else None
        self.of_content = torch.nn.Parameter(torch.zeros(num_features, dim))

    def forward(self, summed: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`summed` (b, dim) rows -> hidden (b, dim) to meet the decoder rows, and the KL divergence (b,), 0 for a regular one."""
        encoded = torch.tanh(summed + self.bias)
        code, kl = self.mean(encoded), torch.zeros(len(summed))
        if self.log_variance is not None:
            log_variance = self.log_variance(encoded)
            kl = 0.5 * (code**2 + log_variance.exp() - 1 - log_variance).sum(1)
            code = code + noise * (0.5 * log_variance).exp()
        return torch.tanh(self.decode(code)), kl


class Trainer:
    """The rows, the network between them, and one pass over the playlists."""

    def __init__(self, recipe: AutoencoderRecipe, data: TrainingData) -> None:
        self.recipe, self.interactions = recipe, data.interactions
        torch.manual_seed(data.seed)
        self.sampler = Sampler(self.interactions, recipe.batch_size, recipe.negatives, least=2)
        self.content = torch.from_numpy(data.content if recipe.content else data.content[:, :0])
        self.network = Network(recipe.dim, self.content.shape[1], recipe.variant == "variational")
        popularity = np.log((self.interactions.track_counts + 0.1) / max(len(self.interactions.tracks), 1)).astype(np.float32)
        start = starting_rows(self.interactions, recipe.dim, ROW_SCALE, data.seed)
        rows = torch.cat([start, torch.from_numpy(popularity)[:, None]], dim=1)
        self.learned = SparseTables({"rows": rows}, list(self.network.parameters()), recipe.learning_rate)
        self.log_chance = torch.from_numpy(self.sampler.log_chances())
        if data.past.older:
            self._continue_from(data.past.older)

    def _continue_from(self, older: WarmStart) -> None:
        """With its layers and its rows; of a hybrid's rows that part is the content's which a linear map of it explains."""
        source, table = older.source_of(Autoencoder), self.learned.tables["rows"]
        table.copy_(warm_rows(table, older, source.track_vectors))
        of_content = torch.from_numpy(linear_map(self.content.numpy(), table[:, :-1].numpy()))
        table[:, :-1] -= self.content @ of_content
        layers = {name: torch.tensor(layer) for name, layer in source.layers.items()}
        self.network.load_state_dict(layers | {"of_content": of_content})

    def state(self) -> TrainingState:
        return TrainingState(self.learned.tables | self.network.state_dict(), self.learned.optimizers)

    def epoch(self, epoch: int, random: np.random.Generator) -> float:
        """The mean loss per playlist over one pass; each pass takes smaller steps than the one before."""
        self.learned.slow_down(1 - epoch / self.recipe.epochs)
        annealed = self.recipe.kl_weight * min(1.0, 2 * (epoch + 1) / self.recipe.epochs)
        losses = [self._step(batch, annealed, random) for batch in self.sampler.batches(random)]
        return float(np.mean(losses)) if losses else 0.0

    def _step(self, playlists: np.ndarray, kl_weight: float, random: np.random.Generator) -> float:
        """All workers draw the same numbers; each then works on its own share of the batch."""
        shown = shown_tracks(self.interactions, playlists, self.recipe.input_dropout, random)
        noise = torch.from_numpy(random.standard_normal((len(playlists), self.recipe.dim), dtype=np.float32))
        start, stop = parallel.shard(len(playlists))
        held = [self.interactions.tracks_of(p) for p in playlists[start:stop]]
        ids = {"rows": self.sampler.draw(held, random)}
        rows = self.learned.rows(ids)
        loss = self.loss(rows["rows"], ids["rows"], shown[start:stop], held, noise[start:stop], kl_weight) / len(playlists)
        return self.learned.update(loss, rows, ids)

    def loss(
        self,
        rows: torch.Tensor,
        sample: torch.Tensor,
        shown: list[Ints],
        held: list[Ints],
        noise: torch.Tensor,
        kl_weight: float,
    ) -> torch.Tensor:
        """The summed loss of this worker's playlists; `rows` (s, dim + 1) are those of the tracks `sample` (s,)."""
        if not held:
            return rows.sum() * 0
        vectors, biases = self._with_content(rows[:, :-1], sample), rows[:, -1]
        hidden, kl = self.network(summed_rows(vectors, sample, shown), noise)
        logits = hidden @ vectors.T + biases
        total = torch.logsumexp(logits - self.log_chance[sample], dim=1)
        lengths = torch.tensor([len(tracks) for tracks in held])
        row_of = torch.repeat_interleave(torch.arange(len(held)), lengths)
        per_entry = total[row_of] - logits[row_of, places(sample, held)]
        # by the root of the length: long playlists teach more than short ones, but not in proportion
        per_playlist = torch.zeros(len(held)).index_add(0, row_of, per_entry) / lengths.sqrt()
        summed_loss: torch.Tensor = (per_playlist + kl_weight * kl).sum()
        return summed_loss

    def _with_content(self, rows: torch.Tensor, tracks: torch.Tensor) -> torch.Tensor:
        """(s, dim) the tracks' own parts and what their content adds; without content nothing is added."""
        return rows + self.content[tracks] @ self.network.of_content

    def track_vectors(self) -> Floats:
        """(num_tracks, dim + 1) own part and content in one; of a track that nobody holds the content alone, and its bias."""
        table = self.learned.tables["rows"]
        own = table[:, :-1] * torch.from_numpy(self.interactions.track_counts > 0)[:, None]
        with torch.no_grad():
            vectors = own + self.content @ self.network.of_content
        return np.ascontiguousarray(torch.cat([vectors, table[:, -1:]], dim=1).numpy())


def shown_tracks(interactions: Interactions, playlists: np.ndarray, dropout: float, random: np.random.Generator) -> list[Ints]:
    """The part of each playlist the encoder sees: its first tracks or random ones, from one to nearly all, or none."""
    shown = []
    for playlist in playlists:
        tracks = interactions.tracks_of(playlist)
        count = int(np.ceil(random.random() * min(len(tracks) - 1, LONGEST_INPUT)))
        first, none = random.random() < 0.5, random.random() < SHOWN_NONE
        part = (tracks if first else random.permutation(tracks))[: 0 if none else count]
        shown.append(part[random.random(len(part)) >= dropout])
    return shown


def summed_rows(rows: torch.Tensor, sample: torch.Tensor, shown: list[Ints]) -> torch.Tensor:
    """(b, dim) the sum of the `shown` tracks' rows over the square root of their number; zeros where none is shown."""
    lengths = torch.tensor([len(tracks) for tracks in shown])
    offsets = torch.cumsum(lengths, 0) - lengths
    summed = torch.nn.functional.embedding_bag(places(sample, shown), rows, offsets, mode="sum")
    return summed / lengths.clamp_min(1).sqrt()[:, None]
