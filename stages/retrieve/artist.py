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
        artists, counts = visible.catalog.artists, visible.interactions.track_counts
        known = np.flatnonzero(artists != UNKNOWN)
        num_artists = int(artists.max(initial=-1)) + 1
        rank = _rank_within(artists[known], -counts[known])
        kept = known[rank < self.tracks_per_artist]
        scores = np.log1p(counts[kept]).astype(np.float32) + np.float32(1e-3)
        tracks = sp.csr_matrix((scores, (artists[kept], kept)), shape=(num_artists, visible.num_tracks))
        report("artist", 1.0, {})
        return Artist(artists, tracks)

    def open(self, folder: Path, num_tracks: int) -> Artist:
        artists = np.load(folder / "artists.npy", mmap_mode="r", allow_pickle=False)
        return Artist(artists, open_sparse(folder, "tracks", num_tracks))


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
        np.save(folder / "artists.npy", self.artists)
        save_sparse(folder, "tracks", self.tracks)
        return {"kind": "artist", "artists": int(self.tracks.shape[0])}
