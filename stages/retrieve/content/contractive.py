"""A contractive autoencoder over content: tracks that differ in noise alone stay together.

Input: the content matrix, each column brought to 0...1. Output: a vector for every track, for `content.py` to search.
Hidden layers of ReLU, sigmoid output, loss = mean squared error + weight x |Jacobian of the hidden units|^2 (Rifai, Vincent,
Muller, Glorot and Bengio, "Contractive Auto-Encoders", 2011). With several hidden layers the penalty is that of the last
one with respect to the inputs (the higher layers see it through those below), exact by the chain rule.
Knows no playlist and no Ray.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from stages.protocols import Report, TrainingData, silent
from stages.retrieve.content.model import Content
from stages.retrieve.index.recipe import IndexRecipe


class ContractiveRecipe(BaseModel):
    """Size, penalty and length of the training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["contractive"] = "contractive"
    dim: int = Field(32, ge=1, le=1024)
    """Units in each hidden layer."""
    hidden_layers: int = Field(1, ge=1, le=10)
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(0.001, gt=0)
    jacobian_weight: float = Field(1e-4, ge=0)
    index: IndexRecipe = IndexRecipe()

    def fit(self, visible: TrainingData, report: Report = silent) -> Content:
        if not visible.content.shape[1]:
            return Content.silent(self.kind, self.dim, self.index, visible)
        from stages.retrieve.content.contractive_training import hidden_units  # it needs torch, which a server has no use for

        return Content.of(self.kind, hidden_units(self, visible, report), self.index, visible)

    def open(self, folder: Path, num_tracks: int) -> Content:
        return Content.open(self.kind, folder, (num_tracks, self.dim), self.index)
