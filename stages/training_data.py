"""What a retriever may learn from.

Input: the visible part of every playlist, the catalog, the content matrix. Output: one frozen TrainingData. Nothing here leads to
a held-out track: `features.split` builds the visible interactions, and a fit gets nothing else. Knows no model and no Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from features.catalog import Catalog
from features.content import ContentRecipe
from features.domain import Floats, Ints
from features.interactions import Interactions
from stages.resume import FROM_SCRATCH, TrainingContext


@dataclass(frozen=True)
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

    @property
    def num_tracks(self) -> int:
        return self.interactions.num_tracks

    @property
    def tracks_in_playlists(self) -> Ints:
        """(m,) the tracks that at least one playlist holds, ascending."""
        return np.flatnonzero(self.interactions.track_counts).astype(np.int32)
