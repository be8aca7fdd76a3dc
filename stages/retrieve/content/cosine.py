"""Cosine over the content matrix itself: nothing is learned but scales, so it costs next to nothing.

Input: the content matrix and its columns' names. Output: a vector for every track, for `content.py` to search. Each group of
columns (artist, genre, audio, …) is scaled to its weight, so that fifty genre columns weigh no more than one popularity. The
artist's columns are whitened before, that is turned and scaled until all vary alike and none says what another says: artists
are then told apart by all of their components and not by the first alone. What is left is turned onto its principal
components, the first `dim` of which are kept (whitening and PCA: Jolliffe, Principal Component Analysis, 2002).
Knows no playlist and no Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from features.content import group_of
from features.domain import Floats
from stages.protocols import Report, TrainingData, require_finite, silent
from stages.retrieve.content.model import FAINT, Content
from stages.retrieve.index.recipe import IndexRecipe

NEGLIGIBLE = 1e-4
"""A direction in which a group varies less than this share of its most varied one is not blown up to the others' size."""
Group = Literal["artist", "genre", "audio", "duration", "popularity", "year", "explicit", "missing"]


class GroupWeights(BaseModel):
    """The standard deviation each group of columns gets; 0 leaves the group out. Chosen on masked playlists: see DESIGN.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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


class CosineRecipe(BaseModel):
    """How much each group of features counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["cosine"] = "cosine"
    dim: int = Field(48, ge=1, le=1024)
    """Principal components kept, at most as many as the matrix has columns."""
    weights: GroupWeights = GroupWeights()
    whitened: tuple[Group, ...] = ("artist",)
    """Groups that are whitened; the columns of the others keep their proportions."""
    index: IndexRecipe = IndexRecipe()

    def fit(self, visible: TrainingData, report: Report = silent) -> Content:
        blocks = [self._block(visible.content[:, columns], group) for group, columns in _groups(visible)]
        # one column of zeros, so that there are vectors where nothing is known
        weighted = np.concatenate([np.zeros((visible.num_tracks, 1), np.float32), *blocks], axis=1)
        trained = Content.of(self.kind, _principal(weighted)[0][:, : self.dim], self.index, visible)
        report("content", 1.0, {})
        return trained

    def _block(self, values: Floats, group: str) -> Floats:
        """A group's columns, with a summed variance of weight^2; a group that does not vary stays as it is."""
        finite = require_finite("content vectors", values)
        columns = _whitened(finite) if group in self.whitened else finite
        variance = float(columns.var(axis=0, dtype=np.float64).sum())
        return columns * np.float32(self.weights.of(group) / np.sqrt(variance if variance > FAINT**2 else 1))

    def open(self, folder: Path, num_tracks: int) -> Content:
        return Content.open(self.kind, folder, (num_tracks, None), self.index)


def _groups(visible: TrainingData) -> list[tuple[str, list[int]]]:
    """Each group with its columns, in order of first appearance; columns without names are one group."""
    names: Sequence[str] = visible.content_names or ("unnamed",) * visible.content.shape[1]
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        groups.setdefault(group_of(name), []).append(column)
    return list(groups.items())


def _whitened(values: Floats) -> Floats:
    """(num_tracks, rank) uncorrelated columns of variance 1; none where nothing varies."""
    turned, variances = _principal(values)
    kept = variances > max(NEGLIGIBLE * variances.max(initial=0), FAINT**2)
    return np.asarray(turned[:, kept] / np.sqrt(variances[kept]), np.float32)


def _principal(values: Floats) -> tuple[Floats, np.ndarray]:
    """The centred `values` on their principal axes, and the variance along each, largest first."""
    centred = (values - values.mean(axis=0, dtype=np.float64)).astype(np.float32)
    variances, axes = np.linalg.eigh((centred.T @ centred / len(centred)).astype(np.float64))
    return centred @ axes[:, ::-1].astype(np.float32), variances[::-1]
