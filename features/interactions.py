"""Playlist-track interactions: for every playlist its tracks in order, and the same as a sparse matrix.

Input: the interactions table, in parts. Output: ragged arrays over playlists, a scipy matrix of them. Knows no file and no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import polars as pl
import scipy.sparse as sp

from features.domain import Floats, Ints, Offsets, counted
from features.npy import read_only
from features.ragged import Ragged, offsets_of
from features.schema import PLAYLIST_INDEX, PLAYS, TRACK_INDEX


@dataclass(frozen=True)
class Interactions:
    """`p` playlists as ragged arrays: playlist `i` holds `tracks[offsets[i]:offsets[i + 1]]`, in its order."""

    tracks: Ints
    plays: Floats
    """(nnz,) how often the playlist holds the track, or the listener played it; 1 where nothing else is known."""
    offsets: Offsets
    titles: tuple[str, ...]
    num_tracks: int
    followers: Ints = field(default_factory=lambda: np.empty(0, np.int32))
    """(num_playlists,) how many listeners follow each playlist; zeros where nobody said."""

    def __post_init__(self) -> None:
        if not len(self.followers):
            object.__setattr__(self, "followers", np.zeros(len(self.titles), np.int32))

    def __repr__(self) -> str:
        counts = ((self.num_playlists, "playlist"), (self.num_tracks, "track"), (len(self.tracks), "entry"))
        return f"Interactions({', '.join(counted(*one) for one in counts)})"

    @classmethod
    def from_parts(
        cls,
        parts: Iterable[pl.DataFrame],
        entries: int,
        titles: Sequence[str],
        num_tracks: int,
        followers: Ints | None = None,
        first: int = 0,
    ) -> Interactions:
        """`parts` in schema.INTERACTIONS, sorted by playlist then position, `entries` rows in all; none is kept.

        The playlists are those from index `first` on, with these titles and, where they are known, `followers` (num_playlists,).
        """
        tracks, plays = np.empty(entries, np.int32), np.empty(entries, np.float32)
        lengths, filled = np.zeros(len(titles), np.int64), 0
        for part in parts:
            rows = slice(filled, filled + part.height)
            tracks[rows], plays[rows] = part[TRACK_INDEX].to_numpy(), part[PLAYS].to_numpy()
            lengths += np.bincount(part[PLAYLIST_INDEX].to_numpy() - first, minlength=len(titles))
            filled = rows.stop
        return cls(
            tracks=read_only(tracks),
            plays=read_only(plays),
            offsets=offsets_of(lengths),
            titles=tuple(titles),
            num_tracks=num_tracks,
            followers=np.zeros(len(titles), np.int32) if followers is None else followers,
        )

    @property
    def num_playlists(self) -> int:
        return len(self.titles)

    @cached_property
    def by_playlist(self) -> Ragged[np.int32]:
        """(num_playlists) rows: the tracks of each."""
        return Ragged(self.tracks, self.offsets)

    def lengths(self) -> Offsets:
        """(num_playlists,) tracks in each."""
        return self.by_playlist.lengths()

    def tracks_of(self, playlist: int) -> Ints:
        return self.by_playlist.row(playlist)

    def part(self, first: int, last: int) -> Interactions:
        """The playlists from `first` to before `last`, without a copy of their entries."""
        entries = slice(self.offsets[first], self.offsets[last])
        return replace(
            self,
            tracks=self.tracks[entries],
            plays=self.plays[entries],
            offsets=self.offsets[first : last + 1] - self.offsets[first],
            titles=self.titles[first:last],
            followers=self.followers[first:last],
        )

    def of_playlists(self, rows: Ints) -> Interactions:
        """Those of the playlists `rows` (m,), in that order, over the same tracks."""
        entries = self.by_playlist.places(rows)
        return replace(
            self,
            tracks=self.tracks[entries],
            plays=self.plays[entries],
            offsets=offsets_of(self.lengths()[rows]),
            titles=tuple(self.titles[row] for row in rows.tolist()),
            followers=self.followers[rows],
        )

    def sampled(self, entries: int, seed: int) -> Interactions:
        """Random playlists, in their order, with at most about so many entries together; all of them where that is fewer."""
        if len(self.tracks) <= entries:
            return self
        order = np.random.default_rng(seed).permutation(self.num_playlists)
        count = int(np.searchsorted(np.cumsum(self.lengths()[order]), entries, side="right"))
        return self.of_playlists(np.sort(order[: max(count, 1)]).astype(np.int32))

    @cached_property
    def matrix(self) -> sp.csr_matrix:
        """(num_playlists, num_tracks) float32 plays."""
        shape = (self.num_playlists, self.num_tracks)
        return sp.csr_matrix((self.plays, self.tracks, self.offsets), shape=shape)

    @cached_property
    def holds(self) -> sp.csr_matrix:
        """(num_playlists, num_tracks) float32 1 where the playlist holds the track."""
        held = self.matrix.copy()
        held.data[:] = 1
        return held

    @cached_property
    def track_counts(self) -> Offsets:
        """(num_tracks,) in how many playlists each track is."""
        return np.bincount(self.tracks, minlength=self.num_tracks)


def evenly_thinned(postings: sp.csr_matrix, most: int) -> sp.csr_matrix:
    """At most `most` entries of each row, evenly spread; all ones."""
    lengths = np.diff(postings.indptr)
    place = np.arange(postings.nnz) - np.repeat(postings.indptr[:-1], lengths)
    length = np.repeat(lengths, lengths)
    # the place-th entry stays where floor(place * most / length) steps up
    kept = (length <= most) | ((place * most) // length != ((place - 1) * most) // length)
    indptr = offsets_of(np.minimum(lengths, most))
    return sp.csr_matrix((np.ones(int(indptr[-1]), np.float32), postings.indices[kept], indptr), shape=postings.shape)
