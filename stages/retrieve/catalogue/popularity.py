"""Popularity: the tracks that most playlists hold. The baseline, and the answer to an empty query.

Input: playlist-track interactions. Output: the same ranking for every query. Of a query it uses only the excluded tracks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from features.arrays import floats, indices
from features.domain import Floats, Ints, Queries, Retrieved, counted
from features.npy import load_array, save_array
from features.progress import Progress
from stages.retrieve import topk
from stages.retrieve.recipe import Recipe
from stages.retrieve.source import WithoutVectors
from stages.training_data import TrainingData


class PopularityRecipe(Recipe):
    """Nothing to choose."""

    kind: Literal["popularity"] = "popularity"

    def read(self, folder: Path, num_tracks: int) -> Popularity:
        order = load_array(folder / "order.npy", indices(num_tracks, below=num_tracks, order="distinct"), mmap=True)
        return Popularity(order, load_array(folder / "counts.npy", floats(num_tracks, low=0, order="falling"), mmap=True))


def fit_popularity(recipe: PopularityRecipe, data: TrainingData, report: Progress) -> Popularity:
    counts = data.interactions.track_counts
    order = np.argsort(-counts, kind="stable").astype(np.int32)
    report("popularity", 1.0, {})
    return Popularity(order, counts[order].astype(np.float32))


@dataclass(frozen=True, repr=False)
class Popularity(WithoutVectors):
    """Trained: all tracks, most held first."""

    order: Ints
    counts: Floats
    """(num_tracks,) playlists that hold the track, in that order."""

    @property
    def size(self) -> str:
        return counted(len(self.order), "track")

    def retrieve_batch(self, queries: Queries, n: int) -> Retrieved:
        return topk.top_of_order(self.order, self.counts, queries, n)

    def write(self, folder: Path) -> dict[str, Any]:
        save_array(folder / "order.npy", self.order)
        save_array(folder / "counts.npy", self.counts)
        return {"kind": "popularity"}
