"""track_id <-> track_index: ids are strings outside and dense int32 indices inside; translated here and nowhere else.

Input: the track ids in the order of their indices. Output: the translation both ways, and a hash by which an artifact
recognises the data it was trained on. A Spotify track is the same track as `spotify:track:X` and as bare `X`.
Knows no playlist and nothing about a track but its id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from features.domain import NO_TRACK, Ints, SegueError, counted
from features.reading import RETRAIN
from features.schema import TRACK_ID, VOCABULARY
from features.tables import read_table

URI_PREFIX = "spotify:track:"
_HASHED_AT_ONCE = 100_000


class Vocabulary:
    """The known tracks; the id in row i belongs to track_index i. Never changed once made."""

    def __init__(self, track_ids: pl.Series | Sequence[str]) -> None:
        """Ids must be there and unique, else SegueError."""
        self.track_ids = pl.Series(TRACK_ID, track_ids, dtype=pl.String, strict=True).rechunk()
        if self.track_ids.null_count() or not self.track_ids.is_unique().all():
            raise SegueError(f"vocabulary: expected {len(self)} different track ids, found {self.track_ids.drop_nulls().n_unique()}")

    @classmethod
    def open(cls, path: Path, num_tracks: int | None = None, repair: str = RETRAIN) -> Vocabulary:
        """Reads what `save` wrote; SegueError when the file is missing, another table, of another number of tracks than `num_tracks`
        (None: any), or of ids that are not all different."""
        table = read_table(path, VOCABULARY, num_tracks, complete=VOCABULARY, repair=repair)
        try:
            return cls(table[TRACK_ID])
        except SegueError as error:
            raise SegueError(f"{path}: {error}. {repair}") from error

    def save(self, path: Path) -> None:
        self.track_ids.to_frame().write_parquet(path)

    def __len__(self) -> int:
        return len(self.track_ids)

    def __repr__(self) -> str:
        return f"Vocabulary({counted(len(self), 'track')}, {self.hash[:12]})"

    @cached_property
    def hash(self) -> str:
        """sha256 over the ids in their order, each ended by a newline."""
        digest = hashlib.sha256()
        for part in self.track_ids.to_frame().iter_slices(_HASHED_AT_ONCE):
            digest.update(part.select(pl.col(TRACK_ID) + "\n").to_series().str.join("").item().encode())
        return digest.hexdigest()

    def index_of(self, ids: Sequence[str]) -> Ints:
        """(len(ids),) their indices, NO_TRACK where an id is not known in either of its two forms."""
        return np.fromiter((self._index(track_id) for track_id in ids), np.int32, len(ids))

    def require(self, ids: Iterable[str]) -> Ints:
        """(n,) the indices of `ids` (one or several); SegueError that names the first one that is not known, or is no text."""
        ids = [ids] if isinstance(ids, str) or not isinstance(ids, Iterable) else list(ids)
        for track_id in ids:
            if not isinstance(track_id, str):
                found = f"{track_id!r} ({type(track_id).__name__})"
                raise SegueError(
                    f"track id: expected text such as {self._example()}, found {found}. `vocabulary.ids` turns indices into ids"
                )
        indices = self.index_of(ids)
        if (indices == NO_TRACK).any():
            unknown = ids[int((indices == NO_TRACK).argmax())]
            raise SegueError(
                f"track id: expected one of {len(self)} known tracks such as {self._example()}, found {unknown!r}. "
                "`vocabulary.track_ids` has all of them, `catalog.table` their titles and artists"
            )
        return indices

    def ids(self, indices: Ints | Sequence[int]) -> list[str]:
        """The ids of `indices`, in their order; SegueError for an index outside the vocabulary, NO_TRACK too."""
        wanted = np.asarray(indices, np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise SegueError(f"track index: expected 0 to {len(self) - 1}, found {wanted.min()} to {wanted.max()}")
        return [self.track_ids[i] for i in wanted.tolist()]  # a query engine's gather costs 50 us whatever it gathers

    def _example(self) -> str:
        return self.track_ids[0] if len(self) else "spotify:track:…"

    @cached_property
    def _lookup(self) -> dict[str, int]:
        """Made at the first question: about a second and 0.3 GB for 2.3 million tracks."""
        return {track_id: i for i, track_id in enumerate(self.track_ids.to_list())}

    def _index(self, track_id: str) -> int:
        found = self._lookup.get(track_id)
        return self._lookup.get(_other_form(track_id), NO_TRACK) if found is None else found


def bare(track_id: pl.Expr) -> pl.Expr:
    """The id without Spotify's prefix: what two forms of one track have in common."""
    return track_id.str.strip_prefix(URI_PREFIX)


def _other_form(track_id: str) -> str:
    return track_id[len(URI_PREFIX) :] if track_id.startswith(URI_PREFIX) else URI_PREFIX + track_id
