"""Cosine over the content matrix itself: only scales are learned, so training is cheap.

Input: the content matrix and its columns' names. Output: a vector for every track. Each group of columns (artist, genre, audio, …)
is scaled to its weight, so that fifty genre columns weigh no more than one popularity. The artist's columns are whitened before,
that is rotated and scaled until all vary alike and are uncorrelated: artists then differ by all of their components and not by the
first alone. The result is rotated onto its principal components, the first `dim` of which are kept (whitening and PCA: Jolliffe,
Principal Component Analysis, 2002). Knows no playlist and no Ray.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.content import group_of
from features.domain import Floats
from features.progress import Progress
from stages.protocols import require_finite
from stages.retrieve.content.model import Content
from stages.retrieve.content.recipes import CosineRecipe
from stages.retrieve.content.training.embeddings import FAINT, content_source
from stages.training_data import TrainingData

NEGLIGIBLE = 1e-4
"""A direction in which a group varies less than this share of its most varied one is not scaled up to the size of the others."""


def fit_cosine(recipe: CosineRecipe, data: TrainingData, report: Progress) -> Content:
    blocks = [_block(recipe, data.content[:, columns], group) for group, columns in _groups(data)]
    # one column of zeros, so that there are vectors where nothing is known
    weighted = np.concatenate([np.zeros((data.num_tracks, 1), np.float32), *blocks], axis=1)
    trained = content_source(recipe, _principal(weighted)[0][:, : recipe.dim], data)
    report("content", 1.0, {})
    return trained


def _block(recipe: CosineRecipe, values: Floats, group: str) -> Floats:
    """A group's columns, with a summed variance of weight^2; a group that does not vary stays as it is."""
    finite = require_finite("content vectors", values)
    columns = _whitened(finite) if group in recipe.whitened else finite
    variance = float(columns.var(axis=0, dtype=np.float64).sum())
    return columns * np.float32(recipe.weights.of(group) / np.sqrt(variance if variance > FAINT**2 else 1))


def _groups(data: TrainingData) -> list[tuple[str, list[int]]]:
    """Each group with its columns, in order of first appearance; columns without names are one group."""
    names: Sequence[str] = data.content_names or ("unnamed",) * data.content.shape[1]
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        groups.setdefault(group_of(name), []).append(column)
    return list(groups.items())


def _whitened(values: Floats) -> Floats:
    """(num_tracks, rank) uncorrelated columns of variance 1; none where nothing varies."""
    rotated, variances = _principal(values)
    kept = variances > max(NEGLIGIBLE * variances.max(initial=0), FAINT**2)
    return np.asarray(rotated[:, kept] / np.sqrt(variances[kept]), np.float32)


def _principal(values: Floats) -> tuple[Floats, np.ndarray]:
    """The centred `values` on their principal axes, and the variance along each, largest first."""
    centred = (values - values.mean(axis=0, dtype=np.float64)).astype(np.float32)
    variances, axes = np.linalg.eigh((centred.T @ centred / len(centred)).astype(np.float64))
    return centred @ axes[:, ::-1].astype(np.float32), variances[::-1]
