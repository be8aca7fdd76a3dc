"""The training data of a retriever: visible interactions, catalog and content.

Input: the visible part of every playlist, the catalog, the content matrix. Output: one frozen TrainingData. Nothing here leads to
a held-out track: `features.split` builds the visible interactions, and a fit gets nothing else. Knows no model and no Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from features.catalog import Catalog
from features.content import ContentRecipe
from features.dataset import Dataset
from features.domain import Floats, Ints, SegueError, counted
from features.frames import Pairs, dataset_of, is_pairs
from features.interactions import Interactions
from stages.resume import FROM_SCRATCH, TrainingContext


@dataclass(frozen=True, repr=False)
class TrainingData:
    """Who holds what, what is known of every track, and where an earlier fit left off."""

    interactions: Interactions
    catalog: Catalog
    content: Floats
    """(num_tracks, num_content_features) the content matrix."""
    seed: int
    content_names: tuple[str, ...] = ()
    """(num_content_features,) the names of its columns, as `features.content` gives them; without names each is a feature of its own."""
    serves: bool = True
    """Whether the trained source will answer requests, so that measuring which index suits it is worth the time."""
    past: TrainingContext = FROM_SCRATCH
    """Checkpoints and an older model of this one source, from which the fit may continue."""

    @classmethod
    def of(cls, interactions: Interactions, catalog: Catalog, recipe: ContentRecipe, seed: int, serves: bool = True) -> Self:
        """With the content matrix that `recipe` computes from these."""
        content = recipe.fit(catalog, interactions)
        return cls(interactions, catalog, content.values, seed, content.names, serves)

    def __repr__(self) -> str:
        held, features = self.interactions, counted(self.content.shape[1], "content feature")
        size = f"{counted(held.num_playlists, 'playlist')} x {counted(held.num_tracks, 'track')}, {counted(len(held.tracks), 'entry')}"
        return f"<TrainingData: {size}, {features}, seed {self.seed}>"

    @property
    def num_tracks(self) -> int:
        return self.interactions.num_tracks

    @property
    def tracks_in_playlists(self) -> Ints:
        """(m,) the tracks that at least one playlist holds, ascending."""
        return np.flatnonzero(self.interactions.track_counts).astype(np.int32)


def as_training_data(data: TrainingData | Dataset | Interactions | Pairs, seed: int = 0) -> TrainingData:
    """What a fit accepts: training data as it is, or a dataset, its interactions, or pairs of (playlist, track).

    SegueError for anything else. `features.frames` says which pairs; `dataset_of` there gives the vocabulary of their tracks.
    """
    if isinstance(data, TrainingData):
        return data
    if isinstance(data, Interactions):
        return TrainingData(data, Catalog.unknown(data.num_tracks), np.empty((data.num_tracks, 0), np.float32), seed)
    if is_pairs(data):
        data = dataset_of(data)
    if isinstance(data, Dataset):
        return TrainingData.of(data.interactions, data.catalog, ContentRecipe(), seed)
    raise SegueError(
        "fit: expected TrainingData, a Dataset, its interactions, or pairs of (playlist, track) as a table with two columns or a sparse "
        f"matrix, found {type(data).__name__}. Open a dataset with `Dataset.open(path)`"
    )
