"""From a model's embeddings to a trained content source: the last step of all three trainings.

Input: a vector for every track. Output: the same, centred and of length 1, with the index that suits them. Knows no model.
"""

from __future__ import annotations

import numpy as np

from features.domain import Floats
from stages.protocols import require_finite
from stages.retrieve.content.model import Content
from stages.retrieve.content.recipes import ContractiveRecipe, CosineRecipe, TransformerRecipe
from stages.retrieve.index.selection import with_chosen_index
from stages.training_data import TrainingData

FAINT = 1e-5
"""A vector nearer than this to the mean differs from it by rounding alone."""


def content_source(recipe: CosineRecipe | ContractiveRecipe | TransformerRecipe, embedded: Floats, data: TrainingData) -> Content:
    """`embedded` (num_tracks, dim) as the model gives it; SegueError where it is not finite."""
    vectors = unit_rows_about_the_mean(require_finite("content vectors", embedded))
    known = np.flatnonzero(vectors.any(axis=1)).astype(np.int32)
    return with_chosen_index(Content(recipe, vectors, recipe.index.build(vectors, known, data.seed)), recipe.index, data)


def silent_source(recipe: ContractiveRecipe | TransformerRecipe, data: TrainingData) -> Content:
    """For data without content: a source that never proposes anything."""
    return content_source(recipe, np.zeros((data.num_tracks, recipe.dim), np.float32), data)


def unit_rows_about_the_mean(matrix: Floats) -> Floats:
    """Each row less the mean row, at length 1; zeros where nothing is left.

    Without the mean taken away, rows that are never negative, as those of ReLU units, have all cosines near 1.
    """
    centred = (matrix - matrix.mean(axis=0, dtype=np.float64)).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: Floats = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > FAINT)
    return unit
