"""Same artist, same album: the most popular other tracks of the seeds' artists or albums.

Input: the catalog and playlist-track interactions. Output: tracks of the seeds' artists, or of their albums. A track scores the square
root of how many seeds share its artist (or album), times ln(1 + playlists that hold it), so that neither many seeds nor a
popular track decides alone. Knows no vectors; says nothing where no seed's artist (or album) is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from features.arrays import indices
from features.catalog import UNKNOWN
from features.domain import Ints, Queries, Retrieved, counted
from features.npy import load_array, save_array
from features.progress import Progress
from stages.retrieve.recipe import Recipe
from stages.retrieve.source import WithoutVectors
from stages.retrieve.sparse import largest_by_group, open_sparse, save_sparse
from stages.retrieve.sparse_sums import Weighted, top_of_sums
from stages.training_data import TrainingData

Kind = Literal["artist", "album"]


class ArtistRecipe(Recipe):
    """How many tracks an artist may propose."""

    kind: Literal["artist"] = "artist"
    tracks_per_artist: int = Field(200, ge=1)
    """Of each artist so many tracks are proposed at most, the most popular ones."""

    def read(self, folder: Path, num_tracks: int) -> MoreOfTheSame:
        return MoreOfTheSame.open(self.kind, folder, num_tracks)


class AlbumRecipe(Recipe):
    """How many tracks an album may propose."""

    kind: Literal["album"] = "album"
    tracks_per_album: int = Field(100, ge=1)
    """Of each album so many tracks are proposed at most, the most popular ones."""

    def read(self, folder: Path, num_tracks: int) -> MoreOfTheSame:
        return MoreOfTheSame.open(self.kind, folder, num_tracks)


def fit_artist(recipe: ArtistRecipe, data: TrainingData, report: Progress) -> MoreOfTheSame:
    trained = MoreOfTheSame.of(recipe.kind, data.catalog.artists, data.interactions.track_counts, recipe.tracks_per_artist)
    report("artist", 1.0, {})
    return trained


def fit_album(recipe: AlbumRecipe, data: TrainingData, report: Progress) -> MoreOfTheSame:
    trained = MoreOfTheSame.of(recipe.kind, data.catalog.albums, data.interactions.track_counts, recipe.tracks_per_album)
    report("album", 1.0, {})
    return trained


@dataclass(frozen=True, repr=False)
class MoreOfTheSame(WithoutVectors):
    """Trained: every artist's, or every album's, tracks by popularity."""

    kind: Kind
    owners: Ints
    """(num_tracks,) artist or album of each track, UNKNOWN where it is not known."""
    tracks: sp.csr_matrix
    """(num_owners, num_tracks) ln(1 + count) of the owner's most held tracks."""

    @classmethod
    def of(cls, kind: Kind, owners: Ints, counts: np.ndarray, most: int) -> MoreOfTheSame:
        tracks = largest_by_group(owners, counts, most)
        tracks.data = np.log1p(tracks.data) + np.float32(1e-3)  # a track nobody holds is still its artist's
        return cls(kind, owners, tracks)

    @property
    def size(self) -> str:
        return f"{counted(self.tracks.shape[0], self.kind)} x {counted(self.tracks.shape[1], 'track')}"

    def retrieve_batch(self, queries: Queries, n: int) -> Retrieved:
        return top_of_sums(self.tracks, (self._owners(queries.seeds_of(i)) for i in range(len(queries))), queries, n)

    def _owners(self, seeds: Ints) -> Weighted:
        """The known owners of the seeds, and the root of how many seeds each has."""
        of_seeds = self.owners[seeds]
        owners, counts = np.unique(of_seeds[of_seeds != UNKNOWN], return_counts=True)
        return owners, np.sqrt(counts).astype(np.float32)

    def write(self, folder: Path) -> dict[str, Any]:
        save_array(folder / "owners.npy", self.owners)
        save_sparse(folder, "tracks", self.tracks)
        return {"kind": self.kind, f"{self.kind}s": int(self.tracks.shape[0])}

    @classmethod
    def open(cls, kind: Kind, folder: Path, num_tracks: int) -> MoreOfTheSame:
        tracks = open_sparse(folder, "tracks", (None, num_tracks))
        owners = load_array(folder / "owners.npy", indices(num_tracks, below=tracks.shape[0], low=UNKNOWN), mmap=True)
        return cls(kind, owners, tracks)
