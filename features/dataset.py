"""The dataset directory: how the tables are laid out on disk, how they are written whole and opened with suspicion.

    dataset.json                    format version, counts, the sources' names, size, rows and sha256 of every file
    vocabulary.parquet              row i is track_index i
    catalog.parquet                 row i describes track_index i
    playlists.parquet               row i is playlist_index i
    interactions/part-00000.parquet who holds what; whole playlists in every part

Input: such a directory. Output: a frozen Dataset, or one SegueError that says what does not fit. `replaced_whole` is how a
directory comes into being: under another name first, so that nobody ever sees half of one.
Knows no source file and no model.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.catalog import Catalog
from features.domain import Query, SegueError, counted
from features.interactions import Interactions
from features.manifest import INGEST_AGAIN, INTERACTIONS_FOLDER, DatasetManifest, check_files, read_manifest
from features.schema import (
    CATALOG,
    FOLLOWERS,
    INTERACTIONS,
    PLAYLIST_INDEX,
    PLAYLISTS,
    PLAYS,
    TITLE,
    TRACK_INDEX,
    conform,
)
from features.sealed import as_path
from features.vocabulary import Vocabulary

VOCABULARY_FILE = "vocabulary.parquet"
CATALOG_FILE = "catalog.parquet"
PLAYLISTS_FILE = "playlists.parquet"


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
    def open(cls, path: str | os.PathLike[str], playlists: tuple[int, int] | None = None) -> Dataset:
        """Reads the folder at `path` into memory, about 8 bytes per interaction, 100 per playlist and 200 per track.

        With `playlists` (start, stop) only those are read, over all tracks, and playlist `start` becomes playlist 0.
        SegueError when the folder is missing, no dataset, of another version, or not as it was written,
        and for playlists it has not. The checksums of the interactions are not computed (they are most of the bytes): their sizes
        and numbers of rows are compared.
        """
        path = as_path(path, "dataset")
        manifest = read_manifest(path)
        check_files(path, manifest)
        start, stop = playlists or (0, manifest.num_playlists)
        if not 0 <= start <= stop <= manifest.num_playlists:
            raise SegueError(f"{path}: expected playlists within 0 to {manifest.num_playlists}, found {start} to {stop}")
        vocabulary = Vocabulary.open(path / VOCABULARY_FILE)
        table = _table(path, PLAYLISTS_FILE, PLAYLISTS)
        _check(path, "playlists", manifest.num_playlists, table.height)
        table = table[start:stop]
        held = _interactions(path, manifest, table, len(vocabulary), start)
        dataset = cls(vocabulary, Catalog(_table(path, CATALOG_FILE, CATALOG)), table, held, manifest.fingerprint)
        _check_tracks(path, dataset, manifest)
        return dataset


def _interactions(path: Path, manifest: DatasetManifest, playlists: pl.DataFrame, num_tracks: int, first: int) -> Interactions:
    """Those of `playlists`, a run of the dataset's that begins with index `first`."""
    files = [path / name for name in sorted(manifest.files) if name.startswith(INTERACTIONS_FOLDER)]
    lengths = [_part(file, [PLAYLIST_INDEX], first, playlists.height).height for file in files]
    if playlists.height == manifest.num_playlists:
        _check(path, "interactions", manifest.num_interactions, sum(lengths))
    columns = [PLAYLIST_INDEX, TRACK_INDEX, PLAYS]
    parts = (_part(file, columns, first, playlists.height) for file, length in zip(files, lengths, strict=True) if length)
    followers = playlists[FOLLOWERS].fill_null(0).to_numpy()
    return Interactions.from_parts(parts, sum(lengths), playlists[TITLE].to_list(), num_tracks, followers, first)


def _part(file: Path, columns: Sequence[str], first: int, count: int) -> pl.DataFrame:
    """`columns` of the rows of `count` playlists from `first` on; row groups that hold none of them are passed over."""
    of_these = pl.col(PLAYLIST_INDEX).is_between(first, first + count, closed="left")
    with _reading(file, INTERACTIONS):
        table = pl.scan_parquet(file).select(columns).filter(of_these).collect()
        return conform(table, {name: INTERACTIONS[name] for name in columns}, str(file))


def _check_tracks(path: Path, dataset: Dataset, manifest: DatasetManifest) -> None:
    tracks = dataset.interactions.tracks
    _check(path, "tracks", manifest.num_tracks, len(dataset.vocabulary))
    _check(path, "described tracks", manifest.num_tracks, len(dataset.catalog))
    known = int((tracks.view(np.uint32) < manifest.num_tracks).sum())  # as unsigned, a negative index is too large as well
    _check(path, "interactions of known tracks", len(tracks), known)


def _check(path: Path, what: str, expected: int, found: int) -> None:
    if expected != found:
        raise SegueError(f"{path}: expected {expected} {what}, found {found}. {INGEST_AGAIN}")


def _table(path: Path, name: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    with _reading(path / name, schema):
        return conform(pl.read_parquet(path / name), schema, str(path / name))


@contextmanager
def _reading(file: Path, schema: Mapping[str, pl.DataType]) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise SegueError(f"{file}: expected a table of {', '.join(schema)}, found {first}. {INGEST_AGAIN}") from error
