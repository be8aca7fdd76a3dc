"""Autoencoders over interactions, regular or variational, with or without content; their decoder rows are the track vectors.

Input: who holds what and, for a hybrid, the content matrix. Output: track vectors with their biases, and an encoder that
turns any seed set into a query vector in the same space. The variational one is that of Liang, Krishnan, Hoffman and
Jebara, "Variational Autoencoders for Collaborative Filtering" (2018): multinomial likelihood, annealed KL. The regular one
is without noise and KL: what it must restore is the playlist of which a part is shown, so both are denoising.

What differs makes them fit for millions of tracks and few playlists. The softmax runs over a sample of the tracks
(`stages.retrieve.sampled`), so that no playlists x tracks matrix exists. Encoder and decoder share their rows, which begin
as the leading directions of the interactions. In a hybrid the row of a track is its own part and a linear map of its
content; the sum is kept, so the trained thing needs no content, and a track that nobody holds still has an input.
What the encoder is shown is what requests hold: first tracks, random ones, sometimes none.
Knows no title and no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from features.domain import Floats, Ints, Queries, Retrieved, SegueError
from features.interactions import Interactions
from stages import parallel
from stages.protocols import Report, Visible, require_finite, silent
from stages.retrieve.choice import with_chosen_index
from stages.retrieve.index import Index, IndexRecipe
from stages.retrieve.sampled import Sampler, SparseTables, places
from stages.retrieve.spectral import starting_rows
from stages.retrieve.vectors import open_vectors, save_vectors

LAYERS = "layers.safetensors"
LONGEST_INPUT = 250
"""Tracks of one playlist shown to the encoder at once."""
SHOWN_NONE = 0.1
"""Share of the playlists of which nothing is shown: of the ten request shapes one has no tracks."""
ROW_SCALE = 0.1
"""Of the starting rows."""


class AutoencoderRecipe(BaseModel):
    """Kind, size, length and noise of the training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["autoencoder"] = "autoencoder"
    variant: Literal["regular", "variational"] = "variational"
    content: bool = False
    """Hybrid: the content of the tracks joins encoder and decoder."""
    dim: int = Field(128, ge=1, le=4096)
    epochs: int = Field(6, ge=1)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(0.005, gt=0)
    negatives: int = Field(4_000, ge=1)
    """Tracks drawn per step beside those the batch holds."""
    kl_weight: float = Field(0.2, ge=0)
    """Variational only: the weight of the KL term once annealed; reached after half of the epochs."""
    input_dropout: float = Field(0.5, ge=0, lt=1)
    """Share of the shown tracks that are left out again, at random."""
    index: IndexRecipe = IndexRecipe()

    def fit(self, visible: Visible, report: Report = silent) -> Autoencoder:
        trainer = _Trainer(self, visible)
        for epoch in range(self.epochs):
            report("autoencoder", (epoch + 1) / self.epochs, {"loss": trainer.epoch(epoch)})
        vectors = require_finite("autoencoder track vectors", trainer.track_vectors())
        layers = {name: tensor.numpy().copy() for name, tensor in trainer.network.state_dict().items() if name in _shapes(self)}
        held = np.flatnonzero(visible.interactions.track_counts).astype(np.int32)
        trained = Autoencoder(self, vectors, layers, self.index.build(vectors, held, visible.seed))
        return with_chosen_index(trained, self.index, visible)

    def open(self, folder: Path, num_tracks: int) -> Autoencoder:
        vectors = open_vectors(folder, (num_tracks, self.dim + 1))
        return Autoencoder(self, vectors, _open_layers(folder / LAYERS, _shapes(self)), self.index.open(folder, vectors))


def _shapes(recipe: AutoencoderRecipe) -> dict[str, tuple[int, ...]]:
    """The layers a trained one keeps."""
    dim = recipe.dim
    squares = ("mean", "decode", *(["log_variance"] if recipe.variant == "variational" else []))
    return {"bias": (dim,), **{f"{name}.bias": (dim,) for name in squares}, **{f"{name}.weight": (dim, dim) for name in squares}}


def _open_layers(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    """What `Autoencoder.save` wrote; other names or shapes than those `wanted` are an error."""
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


class _Trainer:
    """The rows, the network between them, and one pass over the playlists."""

    def __init__(self, recipe: AutoencoderRecipe, visible: Visible) -> None:
        self.recipe, self.interactions = recipe, visible.interactions
        self.random = np.random.default_rng(visible.seed)
        torch.manual_seed(visible.seed)
        self.sampler = Sampler(self.interactions, recipe.batch_size, recipe.negatives, least=2)
        self.content = torch.from_numpy(visible.content if recipe.content else visible.content[:, :0])
        self.network = _Network(recipe.dim, self.content.shape[1], recipe.variant == "variational")
        popularity = np.log((self.interactions.track_counts + 0.1) / max(len(self.interactions.tracks), 1)).astype(np.float32)
        start = starting_rows(self.interactions, recipe.dim, ROW_SCALE, visible.seed)
        rows = torch.cat([start, torch.from_numpy(popularity)[:, None]], dim=1)
        self.learned = SparseTables({"rows": rows}, list(self.network.parameters()), recipe.learning_rate)
        self._log_chance = torch.from_numpy(self.sampler.log_chances())

    def epoch(self, epoch: int) -> float:
        """The mean loss per playlist over one pass; each pass takes smaller steps than the one before."""
        self.learned.slow_down(1 - epoch / self.recipe.epochs)
        annealed = self.recipe.kl_weight * min(1.0, 2 * (epoch + 1) / self.recipe.epochs)
        losses = [self._step(batch, annealed) for batch in self.sampler.batches(self.random)]
        return float(np.mean(losses)) if losses else 0.0

    def _step(self, playlists: np.ndarray, kl_weight: float) -> float:
        """All workers draw the same numbers; each then works on its own share of the batch."""
        shown = _shown(self.interactions, playlists, self.recipe.input_dropout, self.random)
        noise = torch.from_numpy(self.random.standard_normal((len(playlists), self.recipe.dim), dtype=np.float32))
        start, stop = parallel.shard(len(playlists))
        held = [self.interactions.tracks_of(p) for p in playlists[start:stop]]
        ids = {"rows": self.sampler.draw(held, self.random)}
        rows = self.learned.rows(ids)
        loss = self._loss(rows["rows"], ids["rows"], shown[start:stop], held, noise[start:stop], kl_weight) / len(playlists)
        return self.learned.update(loss, rows, ids)

    def _loss(
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
        hidden, kl = self.network(_summed(vectors, sample, shown), noise)
        logits = hidden @ vectors.T + biases
        total = torch.logsumexp(logits - self._log_chance[sample], dim=1)
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


def _shown(interactions: Interactions, playlists: np.ndarray, dropout: float, random: np.random.Generator) -> list[Ints]:
    """The part of each playlist the encoder sees: its first tracks or random ones, from one to nearly all, or none."""
    shown = []
    for playlist in playlists:
        tracks = interactions.tracks_of(playlist)
        count = int(np.ceil(random.random() * min(len(tracks) - 1, LONGEST_INPUT)))
        first, none = random.random() < 0.5, random.random() < SHOWN_NONE
        part = (tracks if first else random.permutation(tracks))[: 0 if none else count]
        shown.append(part[random.random(len(part)) >= dropout])
    return shown


def _summed(rows: torch.Tensor, sample: torch.Tensor, shown: list[Ints]) -> torch.Tensor:
    """(b, dim) the sum of the `shown` tracks' rows over the square root of their number; zeros where none is shown."""
    lengths = torch.tensor([len(tracks) for tracks in shown])
    offsets = torch.cumsum(lengths, 0) - lengths
    summed = torch.nn.functional.embedding_bag(places(sample, shown), rows, offsets, mode="sum")
    return summed / lengths.clamp_min(1).sqrt()[:, None]


@dataclass(frozen=True)
class Autoencoder:
    """Trained: rows with their bias as the last coordinate, the network in plain arrays."""

    recipe: AutoencoderRecipe
    track_vectors: Floats
    """(num_tracks, dim + 1), of encoder and decoder alike."""
    layers: dict[str, Floats]
    index: Index

    @property
    def track_biases(self) -> None:
        """The last coordinate is one, but says no more than popularity, and the ranker is better without it."""
        return None

    def query_vectors(self, queries: Queries) -> Floats:
        """(q, dim + 1) the decoded mean of each query's seeds and a 1 for the bias; zeros without seeds."""
        vectors = np.zeros((len(queries), self.recipe.dim + 1), np.float32)
        asked = np.flatnonzero(queries.seed_counts()).tolist()
        summed = [self.track_vectors[s, :-1].sum(0) / np.sqrt(len(s)) for s in (queries.seeds_of(i) for i in asked)]
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
        save_file({name: np.ascontiguousarray(layer) for name, layer in self.layers.items()}, folder / LAYERS)
        form = {"kind": "autoencoder", "variant": self.recipe.variant, "content": self.recipe.content}
        return {**form, "dimension": self.recipe.dim + 1, "metric": "inner product", **self.index.save(folder)}
