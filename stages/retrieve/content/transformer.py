"""A transformer over a track's features: each feature is a token, and attention decides what says what of what.

Input: the content matrix and its columns' names. Output: a vector for every track, for `content.py` to search. A feature
becomes a token, value x embedding + bias; the columns of one feature (the one-hot genres, the artist's components) are one
token together, as is usual for categories. The tokens and a CLS token go through a small pre-norm encoder: FT-Transformer
(Gorishniy, Rubachev, Khrulkov and Babenko, "Revisiting Deep Learning Models for Tabular Data", 2021). There are no labels:
some features are masked, and CLS must reconstruct all of them, masked or not (a denoising autoencoder: Vincent, Larochelle,
Bengio and Manzagol 2008). Knows no playlist and no Ray.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.protocols import Report, TrainingData, silent
from stages.retrieve.content.model import Content
from stages.retrieve.index.recipe import IndexRecipe


class TransformerRecipe(BaseModel):
    """Size of the encoder, and how much it is shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["transformer"] = "transformer"
    dim: int = Field(32, ge=1, le=1024)
    layers: int = Field(2, ge=1, le=12)
    heads: int = Field(4, ge=1)
    masked: float = Field(0.25, ge=0, lt=1)
    """Share of a track's features hidden from the encoder while it learns."""
    epochs: int = Field(10, ge=1)
    tracks_per_epoch: int = Field(20_000, ge=1)
    """Each epoch sees so many tracks, drawn anew."""
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(0.002, gt=0)
    index: IndexRecipe = IndexRecipe()

    @model_validator(mode="after")
    def _heads_share_the_dimensions(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads, expected so many times {self.heads}, found {self.dim}")
        return self

    def fit(self, visible: TrainingData, report: Report = silent) -> Content:
        if not visible.content.shape[1]:
            return Content.silent(self.kind, self.dim, self.index, visible)
        from stages.retrieve.content.transformer_training import embedded  # it needs torch, which a server has no use for

        return Content.of(self.kind, embedded(self, visible, report), self.index, visible)

    def open(self, folder: Path, num_tracks: int) -> Content:
        return Content.open(self.kind, folder, (num_tracks, self.dim), self.index)
