"""More of the same artists: what the seeds' artists have that most playlists hold.

Input: the catalog and who holds what. Output: tracks of the seeds' artists. A track scores
sum over the seeds by its artist of 1, times ln(1 + playlists that hold it), damped for artists with many seeds by a
square root. Knows no vectors; says nothing where no seed's artist is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field

from features.arrays import load_array, save_array
from features.catalog import UNKNOWN
from features.domain import Ints, Queries, Retrieved
from stages.protocols import Report, Visible, silent
from stages.retrieve import topk
from stages.retrieve.votes import open_sparse, save_sparse


class ArtistRecipe(BaseModel):
    """How many tracks an artist may propose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tracks_per_artist: int = Field(200, ge=1)

    def fit(self, visible: Visible, report: Report = silent) -> Artist:
        tracks = most_held(visible.catalog.artists, visible.interactions.track_counts, self.tracks_per_artist)
        tracks.data = np.log1p(tracks.data) + np.float32(1e-3)  # a track nobody holds is still its artist's
        report("artist", 1.0, {})
        return Artist(visible.catalog.artists, tracks)

    def open(self, folder: Path, num_tracks: int) -> Artist:
        artists = load_array(folder / "artists.npy", dtype=np.int32, shape=(num_tracks,), mmap=True)
        return Artist(artists, open_sparse(folder, "tracks", num_tracks))


def most_held(artists: Ints, counts: np.ndarray, most: int) -> sp.csr_matrix:
    """(num_artists, num_tracks) the counts of each artist's `most` most held tracks."""
    known = np.flatnonzero(artists != UNKNOWN)
    kept = known[_rank_within(artists[known], -counts[known]) < most]
    shape = (int(artists.max(initial=UNKNOWN)) + 1, len(artists))
    return sp.csr_matrix((counts[kept].astype(np.float32), (artists[kept], kept)), shape=shape)


def _rank_within(groups: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """(m,) the place, from 0, of each element among its group's in ascending order of `keys`, ties as they stand."""
    order = np.lexsort((keys, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(groups)))
    place = np.empty(len(groups), np.int64)
    place[order] = np.arange(len(groups)) - np.repeat(starts, sizes)
    return place


@dataclass(frozen=True)
class Artist:
    """Trained: every artist's tracks by popularity."""

    artists: Ints
    """(num_tracks,) artist of each track, UNKNOWN where it is not known."""
    tracks: sp.csr_matrix
    """(num_artists, num_tracks) ln(1 + count) of the artist's most held tracks."""

    @property
    def track_vectors(self) -> None:
        return None

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        artists = self.artists[queries.seeds]
        rows = np.repeat(np.arange(len(queries)), queries.seed_counts())
        known = artists != UNKNOWN
        ones = np.ones(int(known.sum()), np.float32)
        seeds = sp.csr_matrix((ones, (rows[known], artists[known])), shape=(len(queries), self.tracks.shape[0]))
        seeds.data = np.sqrt(seeds.data)
        return topk.top_of_sparse((seeds @ self.tracks).tocsr(), queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        save_array(folder / "artists.npy", self.artists)
        save_sparse(folder, "tracks", self.tracks)
        return {"kind": "artist", "artists": int(self.tracks.shape[0])}
