"""A contractive autoencoder over content: small changes of the features barely change the embedding.

Input: the content matrix, each column scaled to 0...1. Output: a vector for every track, its hidden units. Hidden layers of ReLU,
sigmoid output, loss = mean squared error + weight x |Jacobian of the hidden units|^2 (Rifai, Vincent, Muller, Glorot and Bengio,
"Contractive Auto-Encoders", 2011). With several hidden layers the penalty is that of the last one with respect to the inputs (the
higher layers see it through those below), exact by the chain rule. A trained source has no network left, so a fit does not
continue from an older one. Knows no playlist and no Ray.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from features.domain import Floats
from features.progress import Progress, silent
from stages import parallel
from stages.epochs import TrainingState, epochs_left
from stages.resume import NO_CHECKPOINTS, CheckpointStore
from stages.retrieve.content.model import Content
from stages.retrieve.content.recipes import ContractiveRecipe
from stages.retrieve.content.training.embeddings import content_source, silent_source
from stages.training_data import TrainingData


def fit_contractive(recipe: ContractiveRecipe, data: TrainingData, report: Progress) -> Content:
    return content_source(recipe, _hidden_units(recipe, data, report), data) if data.content.shape[1] else silent_source(recipe, data)


def _hidden_units(recipe: ContractiveRecipe, data: TrainingData, report: Progress) -> Floats:
    """(num_tracks, dim) of the trained network."""
    inputs = to_unit_range(data.content)
    model = train(recipe, inputs, data.seed, report, data.past.steps)
    with torch.no_grad():
        units: Floats = model.encode(inputs).numpy()
    return units


def train(
    recipe: ContractiveRecipe, inputs: torch.Tensor, seed: int, report: Progress = silent, steps: CheckpointStore = NO_CHECKPOINTS
) -> ContractiveAutoencoder:
    """`inputs` (num_tracks, num_features) in 0...1; reports the mean loss of each epoch, the penalty included."""
    torch.manual_seed(seed)
    model = ContractiveAutoencoder(inputs.shape[1], recipe.dim, recipe.hidden_layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)

    def loss_of(rows: torch.Tensor, own: slice) -> torch.Tensor:
        return model.loss(inputs[rows[own]], recipe.jacobian_weight)

    for epoch, random in epochs_left(range(recipe.epochs), seed, TrainingState(model.state_dict(), [optimizer]), steps):
        order = torch.from_numpy(random.permutation(len(inputs)))
        loss = parallel.train_epoch(order, recipe.batch_size, optimizer, loss_of)
        report("content", (epoch + 1) / recipe.epochs, {"loss": loss})
    return model


def to_unit_range(matrix: Floats) -> torch.Tensor:
    """Each column from 0 to 1, as the sigmoid output needs; a constant column is 0."""
    low, high = matrix.min(axis=0), matrix.max(axis=0)
    spread = high - low
    return torch.from_numpy((matrix - low) / (spread + (spread == 0)))


class ContractiveAutoencoder(torch.nn.Module):
    """The hidden layers one after the other, and one output layer."""

    def __init__(self, num_features: int, dim: int, hidden_layers: int) -> None:
        super().__init__()
        widths = [num_features] + [dim] * hidden_layers
        self.encoder = torch.nn.ModuleList(torch.nn.Linear(*pair) for pair in pairwise(widths))
        self.decoder = torch.nn.Linear(dim, num_features)

    def encode(self, inputs: torch.Tensor) -> torch.Tensor:
        """(b, num_features) -> (b, dim)"""
        return self._hidden(inputs)[-1]

    def _hidden(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """(b, dim) of every hidden layer."""
        hidden = [inputs]
        for layer in self.encoder:
            hidden.append(torch.relu(layer(hidden[-1])))
        return hidden[1:]

    def loss(self, inputs: torch.Tensor, jacobian_weight: float) -> torch.Tensor:
        """The summed loss of the batch."""
        hidden = self._hidden(inputs)
        error = ((torch.sigmoid(self.decoder(hidden[-1])) - inputs) ** 2).mean(1).sum()
        return error + jacobian_weight * self._squared_jacobian(hidden) if jacobian_weight else error

    def _squared_jacobian(self, hidden: list[torch.Tensor]) -> torch.Tensor:
        """The sum over the batch of |J|^2, where J = A W_1 and A = D_n W_n ... D_2 W_2 D_1, D_i being 1 where a unit of layer i is on.

        |A W_1|^2 = sum(A G * A) with G = W_1 W_1', so that nothing is as wide as the inputs.
        """
        first, *deeper = (weight for name, weight in self.encoder.named_parameters() if name.endswith("weight"))
        on = [(units > 0).float() for units in hidden]
        if not deeper:
            return (on[0] @ (first**2).sum(1)).sum()
        through = torch.diag_embed(on[0])  # A: (b, dim, dim)
        for weight, units in zip(deeper, on[1:], strict=True):
            through = units[:, :, None] * (weight @ through)
        return ((through @ (first @ first.T)) * through).sum()
