"""The settings of the three content models: cosine, a contractive autoencoder, a transformer.

Input: what the config says. Output: a recipe that trains one (`training/`) and opens it again. All three end in the same trained
source, `model.Content`. Knows no playlist.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from stages.retrieve.content.model import Content
from stages.retrieve.index.recipe import IndexRecipe
from stages.retrieve.recipe import Recipe
from stages.retrieve.vectors import open_vectors
from stages.settings import Settings

Group = Literal["artist", "genre", "audio", "duration", "popularity", "year", "explicit", "missing"]


class GroupWeights(Settings):
    """The standard deviation each group of columns gets; 0 leaves the group out. Chosen on masked playlists: see docs/log.md."""

    artist: float = Field(1.0, ge=0)
    genre: float = Field(0.1, ge=0)
    audio: float = Field(0.2, ge=0)
    duration: float = Field(0.05, ge=0)
    popularity: float = Field(0.05, ge=0)
    year: float = Field(0.1, ge=0)
    explicit: float = Field(0.1, ge=0)
    missing: float = Field(0.3, ge=0)

    def of(self, group: str) -> float:
        """1 for a group that has no weight of its own."""
        return float(getattr(self, group)) if group in type(self).model_fields else 1.0


class CosineRecipe(Recipe):
    """Cosine over the content matrix itself: how much each group of features counts."""

    kind: Literal["cosine"] = "cosine"
    dim: int = Field(48, ge=1, le=1024)
    """Principal components kept, at most as many as the matrix has columns."""
    weights: GroupWeights = GroupWeights()
    whitened: tuple[Group, ...] = ("artist",)
    """Groups that are whitened; the columns of the others keep their proportions."""
    index: IndexRecipe = IndexRecipe()

    def read(self, folder: Path, num_tracks: int) -> Content:
        return _open(self, self.index, folder, (num_tracks, None))


class ContractiveRecipe(Recipe):
    """A contractive autoencoder: size, penalty and length of the training."""

    kind: Literal["contractive"] = "contractive"
    dim: int = Field(32, ge=1, le=1024)
    """Units in each hidden layer."""
    hidden_layers: int = Field(1, ge=1, le=10)
    """Hidden layers of the encoder."""
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(0.001, gt=0)
    jacobian_weight: float = Field(1e-4, ge=0)
    """Weight of the contractive penalty, the squared norm of the encoder's Jacobian."""
    index: IndexRecipe = IndexRecipe()

    def read(self, folder: Path, num_tracks: int) -> Content:
        return _open(self, self.index, folder, (num_tracks, self.dim))


class TransformerRecipe(Recipe):
    """A transformer over a track's features: size of the encoder, and how much of the data it sees."""

    kind: Literal["transformer"] = "transformer"
    dim: int = Field(32, ge=1, le=1024)
    """Dimensions of a token and of a track's vector."""
    layers: int = Field(2, ge=1, le=12)
    """Encoder layers."""
    heads: int = Field(4, ge=1)
    """Attention heads; must divide `dim`."""
    masked: float = Field(0.25, ge=0, lt=1)
    """Share of a track's features hidden from the encoder in training."""
    epochs: int = Field(10, ge=1)
    tracks_per_epoch: int = Field(20_000, ge=1)
    """Tracks drawn at random for each epoch."""
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(0.002, gt=0)
    index: IndexRecipe = IndexRecipe()

    @model_validator(mode="after")
    def _heads_share_the_dimensions(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads, expected so many times {self.heads}, found {self.dim}")
        return self

    def read(self, folder: Path, num_tracks: int) -> Content:
        return _open(self, self.index, folder, (num_tracks, self.dim))


def _open(recipe: Recipe, index: IndexRecipe, folder: Path, shape: tuple[int, int | None]) -> Content:
    """`shape` (num_tracks, dim), None where any dim is right."""
    vectors = open_vectors(folder, shape)
    return Content(recipe, vectors, index.open(folder, vectors))
