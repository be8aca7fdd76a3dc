"""The dataset directory: its layout on disk, and how it is opened and validated.

    dataset.json                    format version, counts, the sources' names, size, rows and sha256 of every file
    vocabulary.parquet              row i is track_index i
    catalog.parquet                 row i describes track_index i
    playlists.parquet               row i is playlist_index i
    interactions/part-00000.parquet playlist-track interactions; whole playlists in every part

Input: such a directory. Output: a frozen Dataset, or one SegueError that says what does not fit: bytes that are not those that were
written, and rows that `segue ingest` would not have written. `replaced_whole` is how a directory comes into being: under another
name first, so that nobody ever sees half of one.
Knows no source file and no model.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import polars as pl

from features.arrays import ArraySpec, floats, indices
from features.catalog import Catalog
from features.domain import Query, SegueError, counted
from features.interactions import Interactions
from features.manifest import CATALOG_FILE as CATALOG_FILE
from features.manifest import INGEST_AGAIN, INTERACTIONS_FOLDER, DatasetManifest, check_files, read_manifest
from features.manifest import PLAYLISTS_FILE as PLAYLISTS_FILE
from features.manifest import VOCABULARY_FILE as VOCABULARY_FILE
from features.reading import reading
from features.schema import (
    CATALOG,
    FOLLOWERS,
    INTERACTIONS,
    IS_CHALLENGE,
    PLAYLIST_ID,
    PLAYLIST_INDEX,
    PLAYLISTS,
    PLAYS,
    POSITION,
    TITLE,
    TRACK_INDEX,
    conform,
)
from features.sealed import Verify, as_path
from features.tables import read_table
from features.vocabulary import Vocabulary

Part: TypeAlias = tuple[Path, pl.DataFrame]
"""A file, and rows in schema.INTERACTIONS that are in it."""


@dataclass(frozen=True)
class Dataset:
    """Everything that is known: who holds what, and what the tracks and playlists are."""

    vocabulary: Vocabulary
    catalog: Catalog
    playlists: pl.DataFrame
    """schema.PLAYLISTS"""
    interactions: Interactions
    fingerprint: str
    """sha256 over all of its files: two datasets with the same one are equal."""

    def __repr__(self) -> str:
        held = self.interactions
        counts = ((held.num_playlists, "playlist"), (held.num_tracks, "track"), (len(held.tracks), "interaction"))
        return f"Dataset({', '.join(counted(*one) for one in counts)}, {self.fingerprint[:12]})"

    def query(self, *tracks: str | Iterable[str], title: str = "", exclude: Iterable[str] = ()) -> Query:
        """A question to a retriever: the tracks so far, by id, in playlist order.

        Ids one by one or as a list; a repeated one counts once. Without any, the title alone is the question.
        The ids in `exclude` must not come back. SegueError for an id that the dataset does not have.
        """
        ids = [track_id for one in tracks for track_id in ([one] if isinstance(one, str) or not isinstance(one, Iterable) else one)]
        if not isinstance(title, str):
            raise SegueError(f"title: expected text, found {title!r} ({type(title).__name__})")
        seeds = dict.fromkeys(self.vocabulary.require(ids).tolist())
        return Query(np.array(list(seeds), np.int32), title, self.vocabulary.require(exclude))

    @classmethod
    def open(cls, path: str | os.PathLike[str], playlists: tuple[int, int] | None = None, *, verify: Verify = "full") -> Dataset:
        """Reads the folder at `path` into memory, about 8 bytes per interaction, 100 per playlist and 200 per track.

        With `playlists` (start, stop) only those are read, over all tracks, and playlist `start` becomes playlist 0.
        SegueError when the folder is missing, no dataset, of another version, not as it was written or not as `segue ingest` would
        have written it, and for playlists it has not. Every byte is read once more for its sha256, about 1 s per GB and core;
        `verify="size"` leaves that out, and `playlists` leaves it out for the interactions.
        """
        path = as_path(path, "dataset")
        manifest = read_manifest(path)
        hashed = [name for name in manifest.files if playlists is None or name not in manifest.parts]
        check_files(path, manifest, hashed if verify == "full" else ())
        start, stop = playlists or (0, manifest.num_playlists)
        if not 0 <= start <= stop <= manifest.num_playlists:
            raise SegueError(f"{path}: expected playlists within 0 to {manifest.num_playlists}, found {start} to {stop}")
        vocabulary, catalog = _tracks(path, manifest)
        table = _playlists(path, manifest)[start:stop]
        dataset = cls(vocabulary, catalog, table, _interactions(path, manifest, table, len(vocabulary), start), manifest.fingerprint)
        if table.height == manifest.num_playlists:
            _require_popular_first(path / VOCABULARY_FILE, dataset)
        return dataset


def _tracks(path: Path, manifest: DatasetManifest) -> tuple[Vocabulary, Catalog]:
    vocabulary = Vocabulary.open(path / VOCABULARY_FILE, manifest.num_tracks, INGEST_AGAIN)
    if vocabulary.hash != manifest.vocabulary_hash:
        found = f"{manifest.vocabulary_hash} in the manifest"
        raise SegueError(f"{path / VOCABULARY_FILE}: expected the hash of its ids, {vocabulary.hash}, found {found}. {INGEST_AGAIN}")
    return vocabulary, Catalog(read_table(path / CATALOG_FILE, CATALOG, manifest.num_tracks, repair=INGEST_AGAIN))


def _playlists(path: Path, manifest: DatasetManifest) -> pl.DataFrame:
    """schema.PLAYLISTS, of all playlists."""
    known = (PLAYLIST_ID, TITLE, IS_CHALLENGE)
    table = read_table(path / PLAYLISTS_FILE, PLAYLISTS, manifest.num_playlists, complete=known, repair=INGEST_AGAIN)
    _check(path, "different playlist ids", table.height, table[PLAYLIST_ID].n_unique())
    _check(path, "challenge playlists", manifest.num_challenge_playlists, int(table[IS_CHALLENGE].sum()))
    return table


def _interactions(path: Path, manifest: DatasetManifest, playlists: pl.DataFrame, num_tracks: int, first: int) -> Interactions:
    """Those of `playlists`, a run of the dataset's that begins with index `first`."""
    stop = first + playlists.height
    length, parts = _whole(path, manifest) if playlists.height == manifest.num_playlists else _run(path, manifest, first, stop)
    followers = playlists[FOLLOWERS].fill_null(0).to_numpy()
    titles = playlists[TITLE].to_list()
    with reading(path / INTERACTIONS_FOLDER, f"room for {length:,} interactions", INGEST_AGAIN):
        return Interactions.from_parts(_as_ingested(parts, first, stop, num_tracks), length, titles, num_tracks, followers, first)


def _whole(path: Path, manifest: DatasetManifest) -> tuple[int, Iterator[Part]]:
    """How many rows all parts have, and the parts."""
    files = ((path / name, manifest.files[name].rows) for name in manifest.parts)
    parts = ((file, read_table(file, INTERACTIONS, rows, complete=INTERACTIONS, repair=INGEST_AGAIN)) for file, rows in files)
    return manifest.num_interactions, parts


def _run(path: Path, manifest: DatasetManifest, first: int, stop: int) -> tuple[int, Iterator[Part]]:
    """The same of the playlists from `first` to before `stop`."""
    lengths = {path / name: _rows_of(path / name, [PLAYLIST_INDEX], first, stop).height for name in manifest.parts}
    parts = ((file, _rows_of(file, list(INTERACTIONS), first, stop)) for file, length in lengths.items() if length)
    return sum(lengths.values()), parts


def _rows_of(file: Path, columns: Sequence[str], first: int, stop: int) -> pl.DataFrame:
    """`columns` of the rows of the playlists from `first` to before `stop`; row groups that hold none of them are passed over."""
    with reading(file, f"a table of {', '.join(INTERACTIONS)}", INGEST_AGAIN):
        of_these = pl.col(PLAYLIST_INDEX).is_between(first, stop, closed="left")
        table = pl.scan_parquet(file, glob=False).select(columns).filter(of_these).collect()
        return conform(table, {name: INTERACTIONS[name] for name in columns}, str(file))


def _as_ingested(parts: Iterable[Part], first: int, stop: int, num_tracks: int) -> Iterator[pl.DataFrame]:
    """The same parts, each held against what `segue ingest` writes: rows of playlists from `first` to before `stop`, in their order."""
    for file, part in parts:
        _require_as_ingested(file, part, first, stop, num_tracks)
        first = int(part[PLAYLIST_INDEX][-1]) + 1 if part.height else first  # whole playlists in every part
        yield part


def _require_as_ingested(file: Path, part: pl.DataFrame, first: int, stop: int, num_tracks: int) -> None:
    """Rows by playlist, `first` to before `stop`, then by position; each track of a playlist once; finite plays of 0 or more."""
    specs = {
        PLAYLIST_INDEX: indices(None, below=stop, low=first, order="rising"),
        TRACK_INDEX: indices(None, below=num_tracks),
        PLAYS: floats(None, low=0),
    }
    for name, spec in specs.items():
        spec.require(np.ascontiguousarray(part[name].to_numpy()), f"{file}: {name}", INGEST_AGAIN)
    playlists, tracks, positions = (part[name].to_numpy() for name in (PLAYLIST_INDEX, TRACK_INDEX, POSITION))
    falls = (playlists[1:] == playlists[:-1]) & (positions[1:] < positions[:-1])
    if falls.any():
        row = int(falls.argmax()) + 1
        found = f"{positions[row]} after {positions[row - 1]} in row {row:,}"
        raise SegueError(f"{file}: {POSITION}: expected numbers that never fall within a playlist, found {found}. {INGEST_AGAIN}")
    pairs = np.sort(playlists.astype(np.int64) * num_tracks + tracks)
    twice = pairs[1:] == pairs[:-1]
    if twice.any():
        playlist, track = divmod(int(pairs[twice.argmax()]), num_tracks)
        found = f"track {track} twice in playlist {playlist}"
        raise SegueError(f"{file}: expected each track once in a playlist, found {found}. {INGEST_AGAIN}")


def _require_popular_first(file: Path, dataset: Dataset) -> None:
    """Tracks that most playlists hold first, ties by id: in any other order the indices in the interactions mean other tracks."""
    counts, ids = dataset.interactions.track_counts, dataset.vocabulary.track_ids
    ArraySpec(np.int64, (None,), 0, order="falling").require(counts, f"{file}: playlists that hold each track", INGEST_AGAIN)
    ties = pl.Series(counts[1:] == counts[:-1]) & (ids[1:] <= ids[:-1])
    if ties.any():
        row = int(ties.arg_max() or 0) + 1
        found = f"{ids[row]!r} after {ids[row - 1]!r} in row {row:,}"
        raise SegueError(f"{file}: expected tracks that equally many playlists hold by id, found {found}. {INGEST_AGAIN}")


def _check(path: Path, what: str, expected: int, found: int) -> None:
    if expected != found:
        raise SegueError(f"{path}: expected {expected} {what}, found {found}. {INGEST_AGAIN}")
