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

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from features.atomic import flush, flush_tree
from features.catalog import Catalog
from features.domain import SegueError
from features.interactions import Interactions
from features.schema import (
    CATALOG,
    FOLLOWERS,
    INTERACTIONS,
    IS_CHALLENGE,
    PLAYLIST_INDEX,
    PLAYLISTS,
    PLAYS,
    TITLE,
    TRACK_INDEX,
    conform,
)
from features.validation import in_one_line
from features.vocabulary import Vocabulary

FORMAT_VERSION = 1
MANIFEST_FILE = "dataset.json"
VOCABULARY_FILE = "vocabulary.parquet"
CATALOG_FILE = "catalog.parquet"
PLAYLISTS_FILE = "playlists.parquet"
INTERACTIONS_FOLDER = "interactions"

_AGAIN = "Run `segue ingest` again"


class FileFacts(BaseModel):
    """By what a file is recognised."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    size: int
    rows: int
    sha256: str


class DatasetManifest(BaseModel):
    """What dataset.json says."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format_version: int = FORMAT_VERSION
    fingerprint: str
    """sha256 over the names and checksums of all files: two datasets with the same one hold the same."""
    vocabulary_hash: str
    num_tracks: int
    num_playlists: int
    num_challenge_playlists: int
    num_interactions: int
    sources: tuple[str, ...]
    challenges: tuple[str, ...]
    tracks: str | None
    files: dict[str, FileFacts]


@dataclass(frozen=True)
class Dataset:
    """Everything that is known: who holds what, and what the tracks and playlists are."""

    vocabulary: Vocabulary
    catalog: Catalog
    playlists: pl.DataFrame
    """schema.PLAYLISTS"""
    interactions: Interactions
    fingerprint: str

    @classmethod
    def open(cls, path: Path, playlists: tuple[int, int] | None = None) -> Dataset:
        """Reads the directory into memory, about 8 bytes per interaction, 100 per playlist and 200 per track.

        With `playlists` (start, stop) of those alone, over all tracks: what others hold is not even read, and playlist `start`
        becomes playlist 0. SegueError when the directory is missing, no dataset, of another version, or not as it was written,
        and for playlists it has not. The checksums of the interactions are not computed (they are most of the bytes): their sizes
        and numbers of rows are compared.
        """
        manifest = read_manifest(path)
        _check_files(path, manifest)
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


def read_manifest(path: Path) -> DatasetManifest:
    """What dataset.json says; SegueError when there is none, or one of another version."""
    file = path / MANIFEST_FILE
    if not file.is_file():
        found = "a folder without it" if path.is_dir() else "a file" if path.exists() else "nothing of that name"
        raise SegueError(f"{path}: expected a dataset, a folder with {MANIFEST_FILE}, found {found}. Run `segue ingest` first")
    raw = file.read_bytes()
    if (version := _version(raw)) != FORMAT_VERSION:
        raise SegueError(f"{file}: expected format version {FORMAT_VERSION}, found {version}. {_AGAIN}")
    try:
        return DatasetManifest.model_validate_json(raw)
    except ValidationError as error:
        raise SegueError(f"{file}: expected the facts of a dataset, found {in_one_line(error, DatasetManifest)}. {_AGAIN}") from error


def file_facts(folder: Path) -> dict[str, FileFacts]:
    """Of every parquet file under `folder`, by its relative name in order."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.parquet")}
    return {name: FileFacts(size=path.stat().st_size, rows=_rows(path), sha256=_sha256(path)) for name, path in sorted(paths.items())}


def fingerprint_of(files: Mapping[str, FileFacts]) -> str:
    return hashlib.sha256("".join(f"{name} {facts.sha256}\n" for name, facts in sorted(files.items())).encode()).hexdigest()


def is_dataset(path: Path) -> bool:
    return (path / MANIFEST_FILE).is_file()


@contextmanager
def replaced_whole(out: Path, *, durable: bool = True) -> Iterator[Path]:
    """A folder to write into that becomes `out` when the block ends well, and is gone when it does not.

    It lies beside `out` (or beside the first of its parents that is missing), so becoming `out` is a rename; what was
    `out` before is removed only then. Everything is on the disk before the rename; not `durable`, it may come there later, and
    a machine that loses its power may find files cut short.
    """
    beside = next(parent for parent in out.absolute().parents if parent.is_dir())
    workplace = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=beside))
    try:
        made = workplace / "new"
        made.mkdir()
        with os_errors(out):
            yield made
        if durable:
            flush_tree(made)
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        if out.exists():
            out.rename(workplace / "old")
        made.rename(out)
        if durable:
            flush(out.absolute().parent)
    finally:
        _put_back(workplace / "old", out)
        shutil.rmtree(workplace, ignore_errors=True)


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """What the system refused is an OSError again that says so and where.

    Polars tells of a full disk as if the table were wrong, numpy as a number of bytes that were not written.
    """
    try:
        yield
    except pl.exceptions.PolarsError as error:
        refused = re.search(r"\(os error (\d+)\)", str(error))
        if refused is None:
            raise
        raise OSError(int(refused[1]), os.strerror(int(refused[1])), str(path)) from error
    except OSError as error:
        if error.errno is None and re.search(r"requested and \d+ written", str(error)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def _put_back(old: Path, out: Path) -> None:
    """The second of the two renames failed: what was there is there again."""
    if old.exists() and not out.exists():
        old.rename(out)


def _check_files(path: Path, manifest: DatasetManifest) -> None:
    for name, facts in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise SegueError(f"{file}: expected a file of {facts.size} bytes, found none. {_AGAIN}")
        if file.stat().st_size != facts.size:
            raise SegueError(f"{file}: expected {facts.size} bytes, found {file.stat().st_size}. {_AGAIN}")
        if not name.startswith(INTERACTIONS_FOLDER) and (found := _sha256(file)) != facts.sha256:
            raise SegueError(f"{file}: expected sha256 {facts.sha256}, found {found}: the file was changed. {_AGAIN}")


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
        raise SegueError(f"{path}: expected {expected} {what}, found {found}. {_AGAIN}")


def _table(path: Path, name: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    with _reading(path / name, schema):
        return conform(pl.read_parquet(path / name), schema, str(path / name))


@contextmanager
def _reading(file: Path, schema: Mapping[str, pl.DataType]) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise SegueError(f"{file}: expected a table of {', '.join(schema)}, found {first}. {_AGAIN}") from error


def _rows(path: Path) -> int:
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(raw: bytes) -> object:
    """Asked before anything else is read of a manifest; None where there is none."""
    try:
        document = json.loads(raw)
    except ValueError:
        return None
    return document.get("format_version") if isinstance(document, dict) else None


def figures(dataset: Dataset) -> dict[str, dict[str, float | int | str]]:
    """What `segue describe` shows, by heading: counts, two distributions, and how many tracks each feature is known of."""
    held, catalog = dataset.interactions, dataset.catalog.table
    cells = held.num_playlists * held.num_tracks
    return {
        "counts": {
            "playlists": held.num_playlists,
            "challenge playlists": int(dataset.playlists[IS_CHALLENGE].sum()),
            "playlists with a title": int((dataset.playlists[TITLE] != "").sum()),
            "tracks": held.num_tracks,
            "tracks in no playlist": int((held.track_counts == 0).sum()),
            "artists": int(dataset.catalog.artists.max(initial=-1)) + 1,
            "interactions": len(held.tracks),
            "sparsity": 1 - len(held.tracks) / cells if cells else 1.0,
        },
        "tracks per playlist": _quantiles(held.lengths()),
        "playlists per track": _quantiles(held.track_counts),
        "known of the tracks": {column: 1 - catalog[column].null_count() / max(len(catalog), 1) for column in catalog.columns},
    }


def _quantiles(values: np.ndarray) -> dict[str, float | int | str]:
    if not len(values):
        return {"mean": 0.0}
    levels = {"min": 0, "5 %": 5, "25 %": 25, "median": 50, "75 %": 75, "95 %": 95, "99 %": 99, "max": 100}
    return {"mean": float(values.mean()), **{name: int(np.percentile(values, level)) for name, level in levels.items()}}
