"""Related artists: artists that share playlists with the seeds' artists, and their most popular tracks.

Input: playlist-track interactions, and the tracks' artists. Output: track vectors, those of one artist in one direction, and for any seed
set the vector fitted to its artists. The factors are those of `als` over playlists x artists, where a playlist plays
an artist log2(1 + tracks of the artist in it) times; a track's vector is its artist's, times
(1 + playlists that hold it)^popularity. So the long tail is reached, and ordered, through who made it. Says nothing where no
seed's artist is known. Knows no title and no content.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from features.arrays import floats, indices
from features.catalog import UNKNOWN
from features.domain import Floats, Ints, counted
from features.npy import load_array, save_array
from stages.retrieve.als.model import AlsRecipe
from stages.retrieve.index.recipe import IndexRecipe
from stages.retrieve.recipe import Recipe
from stages.retrieve.vectors import VectorSource, open_vectors


class RelatedRecipe(Recipe):
    """The factors of the artists, and how much a track's popularity counts."""

    old_names: ClassVar = {"factors": "als"}

    kind: Literal["related"] = "related"
    als: AlsRecipe = AlsRecipe(factors=64, alpha=30, iterations=10)
    """Its index is not used."""
    popularity: float = Field(0.25, ge=0)
    """A track's vector is its artist's times (1 + playlists) to this power."""
    index: IndexRecipe = IndexRecipe()

    def read(self, folder: Path, num_tracks: int) -> Related:
        width = self.als.width
        of_artists = load_array(folder / "artist_vectors.npy", floats(None, width), mmap=True)
        artists = load_array(folder / "artists.npy", indices(num_tracks, below=len(of_artists), low=UNKNOWN), mmap=True)
        vectors = open_vectors(folder, (num_tracks, width))
        return Related(self, vectors, self.index.open(folder, vectors), artists, of_artists)


@dataclass(frozen=True, repr=False)
class Related(VectorSource):
    """Trained: artist vectors, the track vectors made of them, and an index over the tracks of known artists."""

    recipe: RelatedRecipe
    artists: Ints
    """(num_tracks,) artist of each track, UNKNOWN where it is not known."""
    artist_vectors: Floats
    """(num_artists, width)"""

    def query_vector(self, seeds: Ints) -> Floats:
        """The least-squares vector of the artists of `seeds`; zeros where none is known."""
        known = self.artists[seeds]
        artists, tracks = np.unique(known[known != UNKNOWN], return_counts=True)
        vectors = self.artist_vectors[artists]
        if not vectors.any():
            return np.zeros(vectors.shape[1], np.float32)
        return self.recipe.als.fold_in(self._gram, vectors, np.log2(1 + tracks).astype(np.float32), len(self.artist_vectors))

    @cached_property
    def _gram(self) -> Floats:
        """(width, width) sum over all artists of y y'; the same for every query."""
        gram: Floats = self.artist_vectors.T @ self.artist_vectors
        return gram

    def write_parts(self, folder: Path) -> None:
        save_array(folder / "artists.npy", self.artists)
        save_array(folder / "artist_vectors.npy", np.ascontiguousarray(self.artist_vectors))

    def facts(self) -> dict[str, Any]:
        return {"kind": "related", "dimension": self.recipe.als.width, "metric": "inner product"}

    @property
    def dimensions(self) -> str:
        return f"{counted(self.recipe.als.factors, 'factor')} of {counted(len(self.artist_vectors), 'artist')}"
