"""(query, candidate) -> named float32 features: one vectorised function for training and for serving.

Input: queries, the union of their candidates, and what is known of tracks from the visible data. Output: one row per
candidate, columns in the order of `PairFeatures.names`. What a source or a space cannot say is NaN, which the ranker's
trees handle. Knows no model: a vector space is an array with a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import scipy.sparse as sp

from features.arrays import load_array, save_array
from features.catalog import UNKNOWN, Catalog
from features.domain import Candidates, Floats, Ints, Queries
from features.interactions import Interactions, evenly_thinned

LAST_SEEDS = 5
"""How many of the last seeds are looked at on their own: playlists drift."""
MOST_POSTINGS = 1_000
"""Playlists looked at per track for co-occurrence; a very popular track is judged by an even sample of its own."""


@dataclass(frozen=True)
class Facts:
    """What the pair features know of every track, from the visible data alone."""

    artists: Ints
    albums: Ints
    counts: Floats
    """(num_tracks,) playlists that hold the track."""
    postings: sp.csr_matrix
    """(num_tracks, num_playlists) 1 where a playlist, among at most MOST_POSTINGS of the track's own, holds it."""

    @classmethod
    def of(cls, interactions: Interactions, catalog: Catalog) -> Self:
        return cls(
            catalog.artists,
            catalog.albums,
            interactions.track_counts.astype(np.float32),
            evenly_thinned(interactions.matrix.T.tocsr(), MOST_POSTINGS),
        )

    def save(self, folder: Path) -> None:
        """Plain arrays in the existing `folder`."""
        for name in ("artists", "albums", "counts"):
            save_array(folder / f"{name}.npy", getattr(self, name))
        save_array(folder / "postings.indices.npy", self.postings.indices.astype(np.int32, copy=False))
        save_array(folder / "postings.indptr.npy", self.postings.indptr.astype(np.int64, copy=False))

    @classmethod
    def open(cls, folder: Path) -> Self:
        artists = load_array(folder / "artists.npy", dtype=np.int32, shape=(None,), mmap=True)
        albums = load_array(folder / "albums.npy", dtype=np.int32, shape=artists.shape, mmap=True)
        counts = load_array(folder / "counts.npy", dtype=np.float32, shape=artists.shape, mmap=True)
        indptr = load_array(folder / "postings.indptr.npy", dtype=np.int64, shape=(len(artists) + 1,), mmap=True)
        indices = load_array(folder / "postings.indices.npy", dtype=np.int32, shape=(int(indptr[-1]),), mmap=True)
        ones = np.ones(len(indices), np.float32)
        return cls(artists, albums, counts, sp.csr_matrix((ones, indices, indptr), shape=(len(artists), int(indices.max(initial=0)) + 1)))

    @cached_property
    def artist_counts(self) -> Floats:
        """(num_tracks,) entries of the track's artist; 0 where the artist is not known."""
        return _group_counts(self.artists, self.counts)

    @cached_property
    def album_counts(self) -> Floats:
        return _group_counts(self.albums, self.counts)

    @cached_property
    def postings_lengths(self) -> Floats:
        return np.asarray(np.diff(self.postings.indptr), np.float32)


def _group_counts(groups: Ints, counts: Floats) -> Floats:
    known = groups != UNKNOWN
    sums = np.bincount(groups[known], weights=counts[known], minlength=1)
    return np.where(known, sums[np.where(known, groups, 0)], 0).astype(np.float32)


@dataclass(frozen=True)
class Space:
    """Track vectors of one source, with their lengths."""

    vectors: Floats
    """(num_tracks, dim)"""
    lengths: Floats
    """(num_tracks,)"""
    biases: Floats | None = None
    """(num_tracks,) what a track gains with every query, where the source learns that."""

    @classmethod
    def of(cls, vectors: Floats, biases: Floats | None = None) -> Self:
        return cls(vectors, np.linalg.norm(vectors, axis=1).astype(np.float32), biases)


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
RANK_OFFSET = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Buettcher 2009): how flat the top of a list is."""


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

    def compute(self, queries: Queries, candidates: Candidates) -> Floats:
        """(num_candidates, num_features), NaN where nothing can be said."""
        blocks = [self._source(source, candidates) for source in self.sources]
        blocks += [self._space(name, space, queries, candidates) for name, space in self.spaces.items()]
        blocks += [biases[candidates.tracks, None] for biases in self._biases.values()]
        about_queries = self._queries(queries)
        blocks += [
            about_queries[candidates.query_of()],
            self._tracks(about_queries, candidates),
            self._overlap(queries, candidates),
            self._company(queries, candidates),
            _union(candidates),
        ]
        return np.concatenate(blocks, axis=1)

    def _source(self, source: str, candidates: Candidates) -> Floats:
        """The source's own score, its rank, and the score as a share of the query's best."""
        if source not in candidates.ranks:
            return _unknown(len(candidates.tracks), len(SOURCE_FEATURES))
        scores, ranks = candidates.scores[source], candidates.ranks[source]
        return np.stack([scores, np.where(ranks > 0, ranks, np.nan), _share_of_best(scores, candidates)], axis=1).astype(np.float32)

    def _space(self, name: str, space: Space, queries: Queries, candidates: Candidates) -> Floats:
        """Every candidate measured in the space, whichever source proposed it."""
        block = _unknown(len(candidates.tracks), len(SPACE_FEATURES))
        searched = candidates.query_vectors.get(name)
        for i, rows in _rows(candidates):
            tracks = candidates.tracks[rows]
            vectors, lengths = space.vectors[tracks], np.maximum(space.lengths[tracks], 1e-9)
            if searched is not None:
                inner = vectors @ searched[i]
                block[rows, 0] = inner
                block[rows, 1] = inner / lengths / max(float(np.linalg.norm(searched[i])), 1e-9)
            seeds = queries.seeds_of(i)
            if len(seeds):
                directions = space.vectors[seeds] / np.maximum(space.lengths[seeds], 1e-9)[:, None]
                cosines = (vectors @ directions.T) / lengths[:, None]  # (candidates, seeds)
                block[rows, 2] = cosines.max(axis=1)
                block[rows, 3] = cosines.mean(axis=1)
                block[rows, 4] = cosines[:, -LAST_SEEDS:].mean(axis=1)
        return block

    def _queries(self, queries: Queries) -> Floats:
        """(q, len(QUERY_FEATURES)) what is asked, the same for all candidates of a query."""
        block = _unknown(len(queries), len(QUERY_FEATURES))
        block[:, 0] = queries.seed_counts()
        block[:, 1] = [bool(title.strip()) for title in queries.titles]
        for i in np.flatnonzero(queries.seed_counts()).tolist():
            seeds = queries.seeds_of(i)
            artists, popularity = self.facts.artists[seeds], np.log1p(self.facts.counts[seeds])
            _, per_artist = np.unique(artists[artists != UNKNOWN], return_counts=True)
            if len(per_artist):
                block[i, 2:4] = len(per_artist), per_artist.max() / len(seeds)
            block[i, 4:] = popularity.mean(), popularity.std()
        return block

    def _tracks(self, about_queries: Floats, candidates: Candidates) -> Floats:
        facts, tracks = self.facts, candidates.tracks
        popularity = np.log1p(facts.counts[tracks])
        of_artist = facts.artist_counts[tracks]
        share = np.divide(facts.counts[tracks], of_artist, out=np.full_like(of_artist, np.nan), where=of_artist > 0)
        relative = popularity - about_queries[candidates.query_of(), QUERY_FEATURES.index("seed_popularity_mean")]
        columns = [popularity, np.log1p(of_artist), np.log1p(facts.album_counts[tracks]), share, relative]
        return np.stack(columns, axis=1).astype(np.float32)

    def _overlap(self, queries: Queries, candidates: Candidates) -> Floats:
        """How many seeds share the candidate's artist or album, and how far from the end the last such seed is."""
        block = np.zeros((len(candidates.tracks), len(OVERLAP_FEATURES)), np.float32)
        for i, rows in _rows(candidates):
            seeds, tracks = queries.seeds_of(i), candidates.tracks[rows]
            count, last = _shared(self.facts.artists, seeds, tracks)
            albums, last_album = _shared(self.facts.albums, seeds, tracks)
            block[rows] = np.stack([count, count / max(len(seeds), 1), last, albums, last_album], axis=1)
        return block

    def _company(self, queries: Queries, candidates: Candidates) -> Floats:
        """How often the candidate shares playlists with each seed: cosine of their playlist sets, over the seeds."""
        block = _unknown(len(candidates.tracks), len(COMPANY_FEATURES))
        postings, lengths = self.facts.postings, self.facts.postings_lengths
        for i, rows in _rows(candidates):
            seeds, tracks = queries.seeds_of(i), candidates.tracks[rows]
            if not len(seeds):
                continue
            shared = (postings[tracks] @ postings[seeds].T).toarray()  # (candidates, seeds) playlists that hold both
            own = np.maximum(lengths[tracks], 1)
            cosine = shared / np.sqrt(own[:, None] * np.maximum(lengths[seeds], 1)[None])
            confidence = shared.sum(axis=1) / own / len(seeds)
            columns = [cosine.max(axis=1), cosine.mean(axis=1), cosine[:, -LAST_SEEDS:].mean(axis=1), (shared > 0).mean(axis=1), confidence]
            block[rows] = np.stack(columns, axis=1)
        return block


def _unknown(rows: int, columns: int) -> Floats:
    return np.full((rows, columns), np.nan, np.float32)


def _rows(candidates: Candidates) -> list[tuple[int, slice]]:
    """(query, its rows) for each query that has candidates."""
    pairs = zip(candidates.offsets[:-1], candidates.offsets[1:], strict=True)
    return [(i, slice(start, stop)) for i, (start, stop) in enumerate(pairs) if stop > start]


def _shared(groups: Ints, seeds: Ints, tracks: Ints) -> tuple[Floats, Floats]:
    """(candidates,) seeds of the same group, and the distance of the last of them from the end (NaN without one)."""
    of_seeds, of_tracks = groups[seeds], groups[tracks]
    known = of_seeds != UNKNOWN
    names, place = np.unique(of_seeds[known], return_inverse=True)
    if not len(names):
        return np.zeros(len(tracks), np.float32), np.full(len(tracks), np.nan, np.float32)
    counts = np.bincount(place).astype(np.float32)
    last = np.zeros(len(names), np.float32)
    last[place] = np.flatnonzero(known)  # later seeds overwrite earlier ones
    at = np.minimum(np.searchsorted(names, of_tracks), len(names) - 1)
    hit = names[at] == of_tracks
    return np.where(hit, counts[at], 0), np.where(hit, len(seeds) - last[at], np.nan)


def _share_of_best(values: np.ndarray, candidates: Candidates) -> np.ndarray:
    """(num_candidates,) `values` over the size of the largest among their query's; NaN is left out."""
    best = np.fmax.reduceat(np.append(values, np.nan), candidates.offsets[:-1]) if len(candidates) else values
    return np.asarray(values / np.maximum(np.abs(best[candidates.query_of()]), 1e-9))


def _union(candidates: Candidates) -> Floats:
    ranks = np.stack(list(candidates.ranks.values()), axis=1)  # (candidates, sources)
    proposed = ranks > 0
    best = np.where(proposed, ranks, np.iinfo(np.int32).max).min(axis=1)
    reciprocal = np.where(proposed, 1 / (RANK_OFFSET + ranks), 0).sum(axis=1)
    return np.stack([proposed.sum(axis=1), best, reciprocal, _share_of_best(reciprocal, candidates)], axis=1).astype(np.float32)
