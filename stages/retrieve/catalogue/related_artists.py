"""Related artists: who is in playlists with the seeds' artists, and what most playlists hold of them.

Input: who holds what, and the tracks' artists. Output: track vectors, those of one artist in one direction, and for any seed
set the vector that explains its artists best. The factors are those of `als` over playlists x artists, where a playlist plays
an artist log2(1 + tracks of the artist in it) times; a track's vector is its artist's, times
(1 + playlists that hold it)^popularity. So the long tail is reached, and ordered, through who made it. Says nothing where no
seed's artist is known. Knows no title and no content.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field

from features.catalog import UNKNOWN
from features.domain import NO_TRACK, Floats, Ints, Queries, Retrieved
from features.interactions import Interactions
from features.npy import load_array, save_array
from stages.protocols import Report, TrainingData, require_finite, silent
from stages.resume import WarmStart
from stages.retrieve.als.model import AlsRecipe
from stages.retrieve.index.recipe import Index, IndexRecipe
from stages.retrieve.index.selection import with_chosen_index
from stages.retrieve.vectors import open_vectors, save_vectors


class RelatedRecipe(BaseModel):
    """The factors of the artists, and how much a track's popularity counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["related"] = "related"
    factors: AlsRecipe = AlsRecipe(dim=64, confidence=30, sweeps=10)
    """Its index is not used."""
    popularity: float = Field(0.25, ge=0)
    index: IndexRecipe = IndexRecipe()

    def fit(self, visible: TrainingData, report: Report = silent) -> Related:
        artists, counts = visible.catalog.artists, visible.interactions.track_counts
        of_artists = self._factorize(visible, artists, report)
        played = np.any(of_artists, axis=1)
        known = np.flatnonzero((artists != UNKNOWN) & played[artists]).astype(np.int32)
        tracks = np.zeros((len(artists), of_artists.shape[1]), np.float32)
        tracks[known] = of_artists[artists[known]] * ((1.0 + counts[known]) ** self.popularity)[:, None]
        related = Related(self, artists, of_artists[:-1], tracks, self.index.build(tracks, known, visible.seed))
        return with_chosen_index(related, self.index, visible)

    def _factorize(self, visible: TrainingData, artists: Ints, report: Report) -> Floats:
        """(num_artists + 1, width) the last row is that of UNKNOWN, zeros; artists nobody plays have zeros too."""
        held, past = visible.interactions, visible.past
        num_artists = int(artists.max(initial=UNKNOWN)) + 1
        vectors = np.zeros((num_artists + 1, self.factors.width), np.float32)
        played = np.unique(artists[held.track_counts > 0])
        if played.max(initial=UNKNOWN) == UNKNOWN:
            return vectors
        start = None if past.older is None else _start(past.older, artists, num_artists)
        plays, shape = partial(_plays, held, artists), (held.num_playlists, num_artists)
        found = self.factors.factorize(plays, shape, visible.seed, report, past, start)
        known = played[played != UNKNOWN]
        vectors[known] = require_finite("related artist vectors", found)[known]
        return vectors

    def open(self, folder: Path, num_tracks: int) -> Related:
        width = self.factors.width
        artists = load_array(folder / "artists.npy", dtype=np.int32, shape=(num_tracks,), mmap=True)
        of_artists = load_array(folder / "artist_vectors.npy", dtype=np.float32, shape=(None, width), mmap=True)
        vectors = open_vectors(folder, (num_tracks, width))
        return Related(self, artists, of_artists, vectors, self.index.open(folder, vectors))


def _plays(held: Interactions, artists: Ints, first: int, last: int) -> sp.csr_matrix:
    """(last - first, num_artists) log2(1 + tracks of the artist in the playlist), of some playlists."""
    known = np.flatnonzero(artists != UNKNOWN)
    shape = (len(artists), int(artists.max(initial=UNKNOWN)) + 1)
    made_by = sp.csr_matrix((np.ones(len(known), np.float32), (known, artists[known])), shape=shape)
    plays = (held.part(first, last).holds @ made_by).tocsr()
    plays.data = np.log2(1 + plays.data)
    return plays


def _start(older: WarmStart, artists: Ints, num_artists: int) -> Floats:
    """(num_artists, width) the older model's vector of each artist, found by a track of it that both know; else zeros."""
    source = older.source_of(Related)
    both = np.flatnonzero((artists != UNKNOWN) & (older.rows != NO_TRACK))
    start = np.zeros((num_artists, source.artist_vectors.shape[1]), np.float32)
    start[artists[both]] = source.artist_vectors[source.artists[older.rows[both]]]
    return start


@dataclass(frozen=True)
class Related:
    """Trained: artist vectors, what they make of the tracks, and an index over the tracks of known artists."""

    recipe: RelatedRecipe
    artists: Ints
    """(num_tracks,) artist of each track, UNKNOWN where it is not known."""
    artist_vectors: Floats
    """(num_artists, width)"""
    track_vectors: Floats
    """(num_tracks, width)"""
    index: Index

    @property
    def track_biases(self) -> None:
        return None

    def query_vectors(self, queries: Queries) -> Floats:
        """(q, width) the least-squares vector of the artists of each query's seeds; zeros where none is known."""
        vectors = np.zeros((len(queries), self.recipe.factors.width), np.float32)
        for i in np.flatnonzero(queries.seed_counts()).tolist():
            made_by = self.artists[queries.seeds_of(i)]
            artists, tracks = np.unique(made_by[made_by != UNKNOWN], return_counts=True)
            if self.artist_vectors[artists].any():
                plays = np.log2(1 + tracks).astype(np.float32)
                vectors[i] = self.recipe.factors.fold_in(self._gram, self.artist_vectors[artists], plays, len(self.artist_vectors))
        return vectors

    @cached_property
    def _gram(self) -> Floats:
        """(width, width) sum over all artists of y y'; the same for every query."""
        gram: Floats = self.artist_vectors.T @ self.artist_vectors
        return gram

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        return self.index.search(self.query_vectors(queries), queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        save_vectors(folder, self.track_vectors)
        save_array(folder / "artists.npy", self.artists)
        save_array(folder / "artist_vectors.npy", np.ascontiguousarray(self.artist_vectors))
        said = self.index.save(folder)
        return {"kind": "related", "dimension": self.recipe.factors.width, "metric": "inner product", **said}
