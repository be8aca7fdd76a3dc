"""A variational autoencoder over interactions, whose decoder rows are the track vectors.

Input: who holds what. Output: track vectors with their biases, and an encoder that turns any seed set into a query
vector in the same space. The model is that of Liang, Krishnan, Hoffman and Jebara, "Variational Autoencoders for
Collaborative Filtering" (2018): multinomial likelihood, annealed KL. What differs makes it scale to millions of tracks:
the softmax runs over the tracks of the batch and a uniform sample of the others, each weighted by the inverse of its
chance to be there, so that no playlists x tracks matrix exists; and each step updates the sampled rows alone.
The encoder is fed a part of the playlist, its first tracks or random ones, as requests are. With several workers
each takes its share of every batch, and the gradients of the sampled rows are summed.
Knows no title, no content and no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.special import gammaln

from features.arrays import load_array, save_array
from features.domain import Floats, Ints, Queries, Retrieved, SegueError
from features.interactions import Interactions
from stages import parallel
from stages.protocols import Report, Visible, require_finite, silent
from stages.retrieve.choice import with_chosen_index
from stages.retrieve.index import Index, IndexRecipe
from stages.retrieve.vectors import open_vectors, save_vectors

LAYERS = "layers.safetensors"
LONGEST_INPUT = 250
"""Tracks of one playlist shown to the encoder at once."""


class AutoencoderRecipe(BaseModel):
    """Size, length and noise of the training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(64, ge=1, le=4096)
    epochs: int = Field(12, ge=1)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(0.005, gt=0)
    negatives: int = Field(4_000, ge=1)
    """Tracks drawn per step beside those the batch holds."""
    kl_weight: float = Field(0.2, ge=0)
    """The weight of the KL term once annealed; reached after half of the epochs. 0 is a denoising autoencoder."""
    index: IndexRecipe = IndexRecipe()

    def fit(self, visible: Visible, report: Report = silent) -> Autoencoder:
        trainer = _Trainer(self, visible.interactions, visible.seed)
        for epoch in range(self.epochs):
            report("autoencoder", (epoch + 1) / self.epochs, {"loss": trainer.epoch(epoch)})
        tables = {name: require_finite(f"autoencoder {name}", table.detach().numpy()) for name, table in trainer.tables.items()}
        layers = {name: tensor.detach().numpy().copy() for name, tensor in trainer.network.state_dict().items()}
        held = np.flatnonzero(visible.interactions.track_counts).astype(np.int32)
        vectors = np.ascontiguousarray(tables["out"])
        index = self.index.build(vectors, held, visible.seed)
        return with_chosen_index(Autoencoder(self, vectors, tables["in"], layers, index), self.index, visible)

    def open(self, folder: Path, num_tracks: int) -> Autoencoder:
        vectors = open_vectors(folder, (num_tracks, self.dim + 1))
        inputs = load_array(folder / "input_vectors.npy", dtype=np.float32, shape=(num_tracks, self.dim), mmap=True)
        return Autoencoder(self, vectors, inputs, _open_layers(folder / LAYERS, self.dim), self.index.open(folder, self.dim + 1))


def _open_layers(path: Path, dim: int) -> dict[str, Floats]:
    """What `Autoencoder.save` wrote; other names or shapes than those of `_Network` are an error."""
    matrices = ("mean", "log_variance", "decode")
    wanted = {"bias": (dim,), **{f"{name}.bias": (dim,) for name in matrices}, **{f"{name}.weight": (dim, dim) for name in matrices}}
    try:
        layers = load_file(path)
    except (OSError, SafetensorError) as error:
        raise SegueError(f"{path}: expected the layers {_form(wanted)}, found {error}. Train again") from error
    found = {name: layer.shape for name, layer in layers.items()}
    if found != wanted or any(layer.dtype != np.float32 for layer in layers.values()):
        raise SegueError(f"{path}: expected the float32 layers {_form(wanted)}, found {_form(found)}. Train again")
    return layers


def _form(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))


class _Network(torch.nn.Module):
    """Everything between the input rows and the decoder rows."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(dim))
        self.mean = torch.nn.Linear(dim, dim)
        self.log_variance = torch.nn.Linear(dim, dim)
        self.decode = torch.nn.Linear(dim, dim)

    def forward(self, summed: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`summed` (b, dim) input rows -> hidden (b, dim) to meet the decoder rows, and the KL divergence (b,)."""
        encoded = torch.tanh(summed + self.bias)
        mean, log_variance = self.mean(encoded), self.log_variance(encoded)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        return torch.tanh(self.decode(mean + noise * (0.5 * log_variance).exp())), kl


class _Trainer:
    """The tables, the network between them, and one pass over the playlists."""

    def __init__(self, recipe: AutoencoderRecipe, interactions: Interactions, seed: int) -> None:
        self.recipe, self.interactions = recipe, interactions
        self.random = np.random.default_rng(seed)
        torch.manual_seed(seed)
        num_tracks, dim = interactions.num_tracks, recipe.dim
        self.network = _Network(dim)
        popularity = torch.from_numpy(np.log((interactions.track_counts + 0.1) / max(len(interactions.tracks), 1)).astype(np.float32))
        out = torch.cat([torch.randn(num_tracks, dim) * 0.1, popularity[:, None]], dim=1)
        self.tables = {"in": torch.randn(num_tracks, dim) * 0.1, "out": out}
        self._dense = torch.optim.Adam(self.network.parameters(), lr=recipe.learning_rate)
        self._sparse = torch.optim.SparseAdam(list(self.tables.values()), lr=recipe.learning_rate * 2)
        self._log_chance = torch.from_numpy(self._log_chances())

    def _log_chances(self) -> Floats:
        """(num_tracks,) how likely each track is in the softmax of a step: in a playlist of a whole batch, or drawn."""
        lengths, num_tracks = self.interactions.lengths(), self.interactions.num_tracks
        held_by = np.bincount(self.interactions.tracks[np.repeat(lengths >= 2, lengths)], minlength=num_tracks)
        playlists = int((lengths >= 2).sum())
        batch, others = min(self.recipe.batch_size, playlists), playlists - held_by
        # of the ways to choose a batch, those without a holder; the gammaln of 0 and below is infinite: there is no way
        ways = gammaln(others + 1) - gammaln(others - batch + 1) - gammaln(playlists + 1) + gammaln(playlists - batch + 1)
        left_out = np.exp(ways) * (1 - min(self.recipe.negatives / num_tracks, 1))
        return np.asarray(np.log1p(-left_out.clip(0, 1 - 1e-9)), np.float32)

    def epoch(self, epoch: int) -> float:
        """The mean loss per playlist over one pass."""
        annealed = self.recipe.kl_weight * min(1.0, 2 * (epoch + 1) / self.recipe.epochs)
        playlists = np.flatnonzero(self.interactions.lengths() >= 2)
        order = self.random.permutation(playlists)
        batches = range(0, len(order), self.recipe.batch_size)
        losses = [self._step(order[start : start + self.recipe.batch_size], annealed) for start in batches]
        return float(np.mean(losses)) if losses else 0.0

    def _step(self, playlists: np.ndarray, kl_weight: float) -> float:
        """All workers draw the same numbers; each then works on its own share of the batch."""
        shown = _shown(self.interactions, playlists, self.random)
        noise = torch.from_numpy(self.random.standard_normal((len(playlists), self.recipe.dim), dtype=np.float32))
        num_tracks = self.interactions.num_tracks
        drawn = self.random.choice(num_tracks, min(self.recipe.negatives, num_tracks), replace=False, shuffle=False)
        start, stop = parallel.shard(len(playlists))
        held = [self.interactions.tracks_of(p) for p in playlists[start:stop]]
        sample = parallel.union_over_workers(torch.from_numpy(np.concatenate([*held, drawn]).astype(np.int64)))
        rows = {name: table[sample].requires_grad_() for name, table in self.tables.items()}
        loss = self._loss(rows, sample.numpy(), shown[start:stop], held, noise[start:stop], kl_weight) / len(playlists)
        self._update(loss, rows, sample)
        return float(parallel.sum_over_workers(loss.detach().clone()))

    def _loss(
        self,
        rows: dict[str, torch.Tensor],
        sample: np.ndarray,
        shown: list[Ints],
        held: list[Ints],
        noise: torch.Tensor,
        kl_weight: float,
    ) -> torch.Tensor:
        """The summed loss of this worker's playlists."""
        if not held:
            return sum((row.sum() * 0 for row in rows.values()), torch.zeros(()))
        summed = _summed(rows["in"], [np.searchsorted(sample, tracks) for tracks in shown])
        hidden, kl = self.network(summed, noise)
        logits = hidden @ rows["out"][:, :-1].T + rows["out"][:, -1]
        total = torch.logsumexp(logits - self._log_chance[sample], dim=1)
        lengths = torch.tensor([len(tracks) for tracks in held])
        row_of = torch.repeat_interleave(torch.arange(len(held)), lengths)
        columns = torch.from_numpy(np.searchsorted(sample, np.concatenate(held)))
        per_entry = total[row_of] - logits[row_of, columns]
        # by the root of the length: long playlists teach more than short ones, but not in proportion
        per_playlist = torch.zeros(len(held)).index_add(0, row_of, per_entry) / lengths.sqrt()
        summed_loss: torch.Tensor = (per_playlist + kl_weight * kl).sum()
        return summed_loss

    def _update(self, loss: torch.Tensor, rows: dict[str, torch.Tensor], sample: torch.Tensor) -> None:
        self._dense.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter in self.network.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parallel.sum_over_workers(parameter.grad)
        for name, table in self.tables.items():
            gradient = parallel.sum_over_workers(_gradient(rows[name]))
            table.grad = torch.sparse_coo_tensor(sample[None], gradient, table.shape, is_coalesced=True, check_invariants=False)
        self._dense.step()
        self._sparse.step()  # type: ignore[no-untyped-call]


def _gradient(rows: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(rows) if rows.grad is None else rows.grad


def _shown(interactions: Interactions, playlists: np.ndarray, random: np.random.Generator) -> list[Ints]:
    """The part of each playlist the encoder sees: its first tracks or random ones, from one track to nearly all."""
    shown = []
    for playlist in playlists:
        tracks = interactions.tracks_of(playlist)
        count = int(np.ceil(random.random() * min(len(tracks) - 1, LONGEST_INPUT)))
        first = random.random() < 0.5
        shown.append(tracks[:count] if first else random.permutation(tracks)[:count])
    return shown


def _summed(rows: torch.Tensor, places: list[np.ndarray]) -> torch.Tensor:
    """(b, dim) the sum of each playlist's input rows over the square root of their number."""
    lengths = np.array([len(place) for place in places])
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64))
    summed = torch.nn.functional.embedding_bag(torch.from_numpy(np.concatenate(places)), rows, offsets, mode="sum")
    return summed / torch.from_numpy(np.sqrt(np.maximum(lengths, 1)).astype(np.float32))[:, None]


@dataclass(frozen=True)
class Autoencoder:
    """Trained: input rows, the network in plain arrays, decoder rows with their bias as the last coordinate."""

    recipe: AutoencoderRecipe
    track_vectors: Floats
    """(num_tracks, dim + 1)"""
    input_vectors: Floats
    """(num_tracks, dim)"""
    layers: dict[str, Floats]
    index: Index

    def query_vectors(self, queries: Queries) -> Floats:
        """(q, dim + 1) the decoded mean of each query's seeds and a 1 for the bias; zeros without seeds."""
        vectors = np.zeros((len(queries), self.recipe.dim + 1), np.float32)
        asked = np.flatnonzero(queries.seed_counts()).tolist()
        summed = [self.input_vectors[s].sum(0) / np.sqrt(len(s)) for s in (queries.seeds_of(i) for i in asked)]
        if summed:
            encoded = np.tanh(np.stack(summed) + self.layers["bias"])
            vectors[asked, :-1] = np.tanh(self._linear("decode", self._linear("mean", encoded)))
            vectors[asked, -1] = 1
        return vectors

    def _linear(self, name: str, values: Floats) -> Floats:
        result: Floats = values @ self.layers[f"{name}.weight"].T + self.layers[f"{name}.bias"]
        return result

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        return self.index.search(self.query_vectors(queries), queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        save_vectors(folder, self.track_vectors)
        save_array(folder / "input_vectors.npy", self.input_vectors)
        save_file({name: np.ascontiguousarray(layer) for name, layer in self.layers.items()}, folder / LAYERS)
        return {"kind": "autoencoder", "dimension": self.recipe.dim + 1, "metric": "inner product", **self.index.save(folder)}
