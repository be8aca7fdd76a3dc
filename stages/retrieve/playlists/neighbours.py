"""Playlist nearest neighbours (user-based kNN): similar playlists vote for the tracks they hold.

Input: playlist-track interactions. Output: the tracks with the most votes of the most similar playlists. Similarity is the cosine of the
idf-weighted track sets, idf = ln((num_playlists + 1) / (count + 1)). Knows no title, no content and no vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from features.domain import Queries, Retrieved, counted
from features.progress import Progress
from stages.retrieve.playlists.voting import Voters
from stages.retrieve.recipe import Recipe
from stages.retrieve.source import WithoutVectors
from stages.retrieve.sparse_sums import each_seed_once
from stages.training_data import TrainingData


class NeighboursRecipe(Recipe):
    """How many neighbours vote, and how much nearer ones count."""

    kind: Literal["neighbours"] = "neighbours"
    neighbours: int = Field(300, ge=1)
    """Similar playlists that vote."""
    sharpness: float = Field(1.5, gt=0)
    """Power of the similarity in a vote: the larger, the more the nearest playlists count."""

    def read(self, folder: Path, num_tracks: int) -> Neighbours:
        return Neighbours(Voters.open(folder, num_tracks, num_tracks, self.neighbours, self.sharpness))


def fit_neighbours(recipe: NeighboursRecipe, data: TrainingData, report: Progress) -> Neighbours:
    holds = data.interactions.holds
    report("neighbours", 1.0, {})
    return Neighbours(Voters.of(holds, holds, recipe.neighbours, recipe.sharpness))


@dataclass(frozen=True, repr=False)
class Neighbours(WithoutVectors):
    """Trained: the playlists, found by the tracks they hold."""

    voters: Voters

    @property
    def size(self) -> str:
        return f"{counted(self.voters.holds.shape[0], 'playlist')} x {counted(self.voters.holds.shape[1], 'track')}"

    def retrieve_batch(self, queries: Queries, n: int) -> Retrieved:
        return self.voters.elect(each_seed_once(queries), queries, n)

    def write(self, folder: Path) -> dict[str, Any]:
        self.voters.save(folder)
        return {"kind": "neighbours", "playlists": int(self.voters.holds.shape[0]), "metric": "idf cosine"}
