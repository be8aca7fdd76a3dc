"""A transformer over a track's features: each feature is a token, and attention relates the features to each other.

Input: the content matrix and its columns' names. Output: a vector for every track, that of the CLS token. A feature
becomes a token, value x embedding + bias; the columns of one feature (the one-hot genres, the artist's components) are one
token together, as is usual for categories. The tokens and a CLS token go through a small pre-norm encoder: FT-Transformer
(Gorishniy, Rubachev, Khrulkov and Babenko, "Revisiting Deep Learning Models for Tabular Data", 2021). There are no labels:
some features are masked, and CLS must reconstruct all of them, masked or not (a denoising autoencoder: Vincent, Larochelle,
Bengio and Manzagol 2008). A trained source has no network left, so a fit does not continue from an older one.
Knows no playlist and no Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from features.content import feature_of
from features.domain import Floats, Ints
from features.progress import Progress, silent
from stages import parallel
from stages.epochs import TrainingState, epochs_left
from stages.resume import NO_CHECKPOINTS, CheckpointStore
from stages.retrieve.content.model import Content
from stages.retrieve.content.recipes import TransformerRecipe
from stages.retrieve.content.training.embeddings import FAINT, content_source, silent_source
from stages.training_data import TrainingData

ENCODED_AT_ONCE = 2_048
"""Tracks encoded in one go: what bounds the memory."""


def fit_transformer(recipe: TransformerRecipe, data: TrainingData, report: Progress) -> Content:
    return content_source(recipe, _embedded(recipe, data, report), data) if data.content.shape[1] else silent_source(recipe, data)


def _embedded(recipe: TransformerRecipe, data: TrainingData, report: Progress) -> Floats:
    """(num_tracks, dim) by the trained network."""
    features = _features(data)
    inputs = torch.from_numpy(_to_unit_variance(data.content, features))
    model = train(recipe, inputs, features, data.seed, report, data.past.steps)
    vectors: Floats = model.embed(inputs).numpy()
    return vectors


def train(
    recipe: TransformerRecipe,
    inputs: torch.Tensor,
    features: Ints,
    seed: int,
    report: Progress = silent,
    steps: CheckpointStore = NO_CHECKPOINTS,
) -> FeatureTransformer:
    """`inputs` (num_tracks, num_columns), `features` (num_columns,) the feature of each; reports each epoch's mean loss."""
    torch.manual_seed(seed)
    model = FeatureTransformer(features, recipe.dim, recipe.layers, recipe.heads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, fused=True)

    def loss_of(random: np.random.Generator, rows: torch.Tensor, own: slice) -> torch.Tensor:
        masked = torch.from_numpy(random.random((len(rows), model.num_features), dtype=np.float32) < recipe.masked)
        return model.loss(inputs[rows[own]], masked[own])

    for epoch, random in epochs_left(range(recipe.epochs), seed, TrainingState(model.state_dict(), [optimizer]), steps):
        sample = torch.from_numpy(random.permutation(len(inputs))[: recipe.tracks_per_epoch])
        loss = parallel.train_epoch(sample, recipe.batch_size, optimizer, partial(loss_of, random))
        report("content", (epoch + 1) / recipe.epochs, {"loss": loss})
    return model


def _features(data: TrainingData) -> Ints:
    """(num_columns,) which feature each column is part of, counted from 0; without names each is one."""
    names: Sequence[str] = data.content_names or [str(column) for column in range(data.content.shape[1])]
    place = {feature: i for i, feature in enumerate(dict.fromkeys(map(feature_of, names)))}
    return np.array([place[feature_of(name)] for name in names], np.int32)


def _to_unit_variance(matrix: Floats, features: Ints) -> Floats:
    """Centred columns, scaled so that the columns of each feature together vary by 1: all features weigh alike in the loss."""
    centred = (matrix - matrix.mean(axis=0, dtype=np.float64)).astype(np.float32)
    variance = np.bincount(features, centred.var(axis=0))
    scale = 1 / np.sqrt(np.where(variance > FAINT**2, variance, 1))
    return np.asarray(centred * scale[features], np.float32)


class FeatureTransformer(torch.nn.Module):
    """Columns -> tokens -> encoder -> the CLS token's vector -> columns again."""

    def __init__(self, features: Ints, dim: int, layers: int, heads: int) -> None:
        super().__init__()
        self.num_features = int(features.max()) + 1
        self.columns: torch.Tensor  # (num_columns, num_features) 1 where the column is the feature's
        self.register_buffer("columns", torch.nn.functional.one_hot(torch.from_numpy(features).long()).float())
        self.embedding = torch.nn.Parameter(torch.randn(len(features), dim) * dim**-0.5)
        self.bias = torch.nn.Parameter(torch.randn(self.num_features, dim) * dim**-0.5)
        self.mask = torch.nn.Parameter(torch.zeros(dim))
        self.cls = torch.nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.encoder = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.0, batch_first=True, norm_first=True) for _ in range(layers)
        )
        self.norm = torch.nn.LayerNorm(dim)
        self.decoder = torch.nn.Linear(dim, len(features))

    def forward(self, inputs: torch.Tensor, masked: torch.Tensor | None = None) -> torch.Tensor:
        """(b, num_columns), and (b, num_features) true where a feature is masked -> (b, dim) what CLS has become."""
        tokens = self.tokens(inputs)
        if masked is not None:
            tokens = torch.where(masked[:, :, None], self.mask, tokens)
        cls = self.cls.expand(len(inputs), 1, -1)
        state = torch.cat([cls, tokens + self.bias], dim=1)  # (b, 1 + num_features, dim)
        for layer in self.encoder:
            state = layer(state)
        normed: torch.Tensor = self.norm(state[:, 0])
        return normed

    def tokens(self, inputs: torch.Tensor) -> torch.Tensor:
        """(b, num_features, dim) the sum of value x embedding over each feature's columns, as one matrix product."""
        spread = self.columns[:, :, None] * self.embedding[:, None]  # (num_columns, num_features, dim)
        return (inputs @ spread.flatten(1)).view(len(inputs), self.num_features, spread.shape[2])

    def loss(self, inputs: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """The summed loss of the batch: per track the squared error of all columns over the number of features."""
        shown: torch.Tensor = self.decoder(self(inputs, masked))
        return ((shown - inputs) ** 2).sum() / self.num_features

    @torch.no_grad()
    def embed(self, inputs: torch.Tensor) -> torch.Tensor:
        """(num_tracks, dim); each worker encodes its share of the tracks."""
        rows = torch.zeros(len(inputs), self.norm.normalized_shape[0])
        start, stop = parallel.shard(len(inputs))
        for first in range(start, stop, ENCODED_AT_ONCE):
            last = min(first + ENCODED_AT_ONCE, stop)
            rows[first:last] = self(inputs[first:last])
        return parallel.all_gather_rows(rows)
