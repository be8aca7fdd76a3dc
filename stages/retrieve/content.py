"""A contractive autoencoder over content: tracks that sound like the seeds, played before or not.

Input: the content matrix. Output: a small vector for every track, cold ones too; a query is the mean of its seeds.
The autoencoder is penalised by the squared norm of the Jacobian of its hidden units (Rifai, Vincent, Muller, Glorot and
Bengio, "Contractive Auto-Encoders", 2011), so that tracks that differ in noise alone stay together. One hidden layer
of ReLU, sigmoid output over inputs scaled to 0...1, loss = mean squared error + weight x |Jacobian|^2.
Knows no playlist and no Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from features.domain import Floats, Queries, Retrieved
from stages import parallel
from stages.protocols import Report, Visible, require_finite, silent
from stages.retrieve.choice import with_chosen_index
from stages.retrieve.index import Index, IndexRecipe
from stages.retrieve.vectors import open_vectors, save_vectors

FAINT = 1e-5
"""A hidden vector nearer than this to the mean differs from it by rounding alone."""


class ContractiveRecipe(BaseModel):
    """Size, penalty and length of the training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(32, ge=1, le=1024)
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(0.001, gt=0)
    jacobian_weight: float = Field(1e-4, ge=0)
    index: IndexRecipe = IndexRecipe()

    def fit(self, visible: Visible, report: Report = silent) -> Contractive:
        if not visible.content.shape[1]:  # nothing but ids is known: the source is there and silent
            return Contractive.of(self, np.zeros((visible.num_tracks, self.dim), np.float32), visible.seed)
        inputs = torch.from_numpy(_to_unit_range(visible.content))
        torch.manual_seed(visible.seed)
        model = _ContractiveAutoencoder(inputs.shape[1], self.dim)
        optimizer = torch.optim.Adam(model.parameters(), lr=self.learning_rate)
        generator = torch.Generator().manual_seed(visible.seed)
        for epoch in range(self.epochs):
            order = torch.randperm(len(inputs), generator=generator)
            losses = [self._step(model, optimizer, inputs[batch]) for batch in torch.split(order, self.batch_size)]
            report("content", (epoch + 1) / self.epochs, {"loss": float(np.mean(losses))})
        with torch.no_grad():
            hidden = require_finite("content vectors", model.encode(inputs).numpy())
        return with_chosen_index(Contractive.of(self, hidden, visible.seed), visible)

    def _step(self, model: _ContractiveAutoencoder, optimizer: torch.optim.Optimizer, batch: torch.Tensor) -> float:
        """Each worker computes its share of the batch; the summed gradients are the whole batch's."""
        start, stop = parallel.shard(len(batch))
        loss = model.loss(batch[start:stop], self.jacobian_weight) / len(batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter in model.parameters():
            if parameter.grad is not None:
                parallel.sum_over_workers(parameter.grad)
        optimizer.step()
        return float(parallel.sum_over_workers(loss.detach()))

    def open(self, folder: Path, num_tracks: int) -> Contractive:
        return Contractive(self, open_vectors(folder, (num_tracks, self.dim)), self.index.open(folder, self.dim))


def _to_unit_range(matrix: Floats) -> Floats:
    """Each column from 0 to 1, as the sigmoid output needs; a constant column is 0."""
    low, high = matrix.min(axis=0), matrix.max(axis=0)
    return np.asarray((matrix - low) / np.where(high > low, high - low, 1), np.float32)


class _ContractiveAutoencoder(torch.nn.Module):
    def __init__(self, num_features: int, dim: int) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(num_features, dim)
        self.decoder = torch.nn.Linear(dim, num_features)

    def encode(self, inputs: torch.Tensor) -> torch.Tensor:
        """(b, features) -> (b, dim)"""
        return torch.relu(self.encoder(inputs))

    def loss(self, inputs: torch.Tensor, jacobian_weight: float) -> torch.Tensor:
        """The summed loss of the batch. The Jacobian of relu(Wx + b) is W's rows where the unit is on, 0 elsewhere."""
        hidden = self.encode(inputs)
        error = ((torch.sigmoid(self.decoder(hidden)) - inputs) ** 2).mean(1).sum()
        jacobian = ((hidden > 0).float() @ (self.encoder.weight**2).sum(1)).sum()
        return error + jacobian_weight * jacobian


@dataclass(frozen=True)
class Contractive:
    """Trained: a vector of length 1 for every track whose content says something, zeros for the others."""

    recipe: ContractiveRecipe
    track_vectors: Floats
    """(num_tracks, dim)"""
    index: Index

    @classmethod
    def of(cls, recipe: ContractiveRecipe, hidden: Floats, seed: int) -> Contractive:
        centred = (hidden - hidden.mean(axis=0, dtype=np.float64)).astype(
            np.float32
        )  # ReLU units are never negative: without this all cosines are near 1
        lengths = np.linalg.norm(centred, axis=1, keepdims=True)
        vectors = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > FAINT)
        known = np.flatnonzero(lengths[:, 0] > FAINT).astype(np.int32)
        return cls(recipe, vectors, recipe.index.build(vectors, known, seed))

    def query_vectors(self, queries: Queries) -> Floats:
        """(q, dim) the direction of the seeds' mean, so that scores are cosines; zeros without seeds."""
        vectors = np.zeros((len(queries), self.track_vectors.shape[1]), np.float32)
        for i in np.flatnonzero(queries.seed_counts()).tolist():
            mean = self.track_vectors[queries.seeds_of(i)].mean(axis=0)
            vectors[i] = mean / max(float(np.linalg.norm(mean)), 1e-9)
        return vectors

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        return self.index.search(self.query_vectors(queries), queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        save_vectors(folder, self.track_vectors)
        return {"kind": "content", "dimension": int(self.track_vectors.shape[1]), "metric": "cosine", **self.index.save(folder)}
