"""(query, candidate) -> named float32 features: one function for training and for serving.

Input: queries, the union of their candidates, and what is known of tracks from the visible data. Output: one row per
candidate, columns in the order of `PairFeatures.names`. What a source or a space cannot say is NaN, which the ranker's
trees handle. The loops are in `features.pair_kernels`. Knows no model: a vector space is an array with a name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Self

import numpy as np

from features import pair_kernels
from features.arrays import MOST_ROWS, floats, indices
from features.catalog import UNKNOWN, Catalog, group_indices
from features.domain import Candidates, Floats, Ints, Offsets, Queries
from features.interactions import Interactions, evenly_thinned
from features.npy import load_array, load_ragged, read_only, save_array, save_ragged
from features.ragged import Ragged

POSTINGS, POSTINGS_OFFSETS = "postings.indices.npy", "postings.indptr.npy"
MOST_POSTINGS = 1_000
"""Playlists looked at per track for co-occurrence; a very popular track is judged by an even sample of its own."""


@dataclass(frozen=True)
class Facts:
    """What the pair features know of every track, from the visible data alone."""

    artists: Ints
    albums: Ints
    counts: Floats
    """(num_tracks,) playlists that hold the track."""
    postings: Ragged[np.int32]
    """Row t: the playlists that hold track t, at most MOST_POSTINGS of them."""

    @classmethod
    def of(cls, interactions: Interactions, catalog: Catalog) -> Self:
        postings = evenly_thinned(interactions.matrix.T.tocsr(), MOST_POSTINGS)
        return cls(
            catalog.artists,
            catalog.albums,
            interactions.track_counts.astype(np.float32),
            Ragged(postings.indices.astype(np.int32, copy=False), postings.indptr.astype(np.int64, copy=False)),
        )

    def save(self, folder: Path) -> None:
        """Plain arrays in the existing `folder`."""
        for name in ("artists", "albums", "counts"):
            save_array(folder / f"{name}.npy", getattr(self, name))
        save_ragged(folder / POSTINGS, folder / POSTINGS_OFFSETS, self.postings)

    @classmethod
    def open(cls, folder: Path, num_tracks: int) -> Self:
        """What `save` wrote, mapped into memory; SegueError where it is not the facts of so many tracks."""
        artists, albums = (load_array(folder / f"{name}.npy", group_indices(num_tracks), mmap=True) for name in ("artists", "albums"))
        playlists = indices(None, below=MOST_ROWS)  # each only has to be told from the others
        postings = load_ragged(folder / POSTINGS, folder / POSTINGS_OFFSETS, playlists, num_tracks, MOST_POSTINGS, mmap=True)
        return cls(artists, albums, open_counts(folder, num_tracks), postings)

    @cached_property
    def artist_counts(self) -> Floats:
        """(num_tracks,) entries of the track's artist; 0 where the artist is not known."""
        return _group_counts(self.artists, self.counts)

    @cached_property
    def album_counts(self) -> Floats:
        return _group_counts(self.albums, self.counts)


def open_counts(folder: Path, num_tracks: int) -> Floats:
    """(num_tracks,) the `counts` alone of the facts in `folder`."""
    return load_array(folder / "counts.npy", floats(num_tracks, low=0), mmap=True)


def _group_counts(groups: Ints, counts: Floats) -> Floats:
    known = groups != UNKNOWN
    sums = np.bincount(groups[known], weights=counts[known], minlength=1)
    return np.where(known, sums[np.where(known, groups, 0)], 0).astype(np.float32)


@dataclass(frozen=True)
class Space:
    """Track vectors of one source."""

    vectors: Floats
    """(num_tracks, dim)"""
    biases: Floats | None = None
    """(num_tracks,) what a track gains with every query, where the source learns that."""

    @cached_property
    def lengths(self) -> Floats:
        """(num_tracks,)"""
        return np.asarray(np.linalg.norm(self.vectors, axis=1), np.float32)


SOURCE_FEATURES = ("score", "rank", "relative_score")
SPACE_FEATURES = ("inner_product", "cosine", "seed_cosine_max", "seed_cosine_mean", "last_seeds_cosine")
QUERY_FEATURES = ("seeds", "has_title", "seed_artists", "top_artist_share", "seed_popularity_mean", "seed_popularity_deviation")
TRACK_FEATURES = ("popularity", "artist_popularity", "album_popularity", "share_of_artist", "popularity_minus_seeds")
OVERLAP_FEATURES = (
    "same_artist_seeds",
    "same_artist_share",
    "same_artist_from_end",
    "same_album_seeds",
    "same_album_from_end",
)
COMPANY_FEATURES = ("company_max", "company_mean", "company_last", "company_seeds", "company_confidence")
UNION_FEATURES = ("proposed_by", "best_rank", "reciprocal_ranks", "relative_reciprocal_ranks")


@dataclass(frozen=True)
class PairFeatures:
    """The recipe of the columns: fixed by the sources and the spaces, so that training and serving cannot differ."""

    facts: Facts
    sources: Sequence[str]
    spaces: Mapping[str, Space]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (
            *(f"{source}.{name}" for source in self.sources for name in SOURCE_FEATURES),
            *(f"{space}.{name}" for space in self.spaces for name in SPACE_FEATURES),
            *(f"{space}.track_bias" for space in self._biases),
            *(f"query.{name}" for name in QUERY_FEATURES),
            *(f"track.{name}" for name in TRACK_FEATURES),
            *(f"overlap.{name}" for name in OVERLAP_FEATURES),
            *(f"company.{name}" for name in COMPANY_FEATURES),
            *(f"union.{name}" for name in UNION_FEATURES),
        )

    @cached_property
    def _biases(self) -> dict[str, Floats]:
        return {name: space.biases for name, space in self.spaces.items() if space.biases is not None}

    @cached_property
    def _bounds(self) -> list[int]:
        """The first column of each block, and the end of the last."""
        widths = [len(SOURCE_FEATURES) * len(self.sources)] + [len(SPACE_FEATURES)] * len(self.spaces) + [1] * len(self._biases)
        rest = (QUERY_FEATURES, TRACK_FEATURES, OVERLAP_FEATURES, COMPANY_FEATURES, UNION_FEATURES)
        return list(accumulate([0, *widths, *map(len, rest)]))

    def compute(self, queries: Queries, candidates: Candidates) -> Floats:
        """(num_candidates, num_features), NaN where nothing can be said."""
        room = np.empty((max(len(candidates.tracks), 2), len(self.names)), np.float32)  # columns of one row would be of another
        found = room[: len(candidates.tracks)]  # type, and every loop compiled for it while somebody waits
        blocks = (room[:, start:stop] for start, stop in pairwise(self._bounds))
        pairs = (candidates.tracks, candidates.offsets, read_only(queries.seeds.values), read_only(queries.seeds.offsets))
        places = [candidates.sources.index(source) if source in candidates.sources else -1 for source in self.sources]
        pair_kernels.of_sources(candidates.scores, candidates.ranks, np.array(places, np.int32), candidates.offsets, next(blocks))
        for name, space in self.spaces.items():
            searched = candidates.query_vectors.get(name, np.empty((0, space.vectors.shape[1]), np.float32))
            pair_kernels.of_space(read_only(space.vectors), read_only(searched), *pairs, next(blocks))
        for biases in self._biases.values():
            next(blocks)[: len(found), 0] = biases[candidates.tracks]
        self._of_facts(queries, candidates, pairs, blocks)
        pair_kernels.of_union(candidates.ranks, candidates.offsets, next(blocks))
        return found

    def _of_facts(
        self, queries: Queries, candidates: Candidates, pairs: tuple[Ints, Offsets, Ints, Offsets], blocks: Iterator[Floats]
    ) -> None:
        facts, (tracks, offsets, seeds, starts) = self.facts, pairs
        artists, counts = read_only(facts.artists), read_only(facts.counts)
        about = np.empty((len(queries), len(QUERY_FEATURES)), np.float32)
        pair_kernels.of_query(artists, counts, seeds, starts, about)
        about[:, 1] = [bool(title.strip()) for title in queries.titles]
        next(blocks)[: len(tracks)] = about[candidates.query_of()]
        pair_kernels.of_track(counts, facts.artist_counts, facts.album_counts, tracks, offsets, about[:, 4].copy(), next(blocks))
        pair_kernels.of_overlap(artists, read_only(facts.albums), *pairs, next(blocks))
        pair_kernels.of_company(read_only(facts.postings.values), read_only(facts.postings.offsets), *pairs, next(blocks))
