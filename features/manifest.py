"""dataset.json, the manifest of a dataset: which files it has, what they are recognised by, and what is counted in them.

Input: the folder of a dataset. Output: a DatasetManifest, or one SegueError that says what does not fit. Knows no table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from features.domain import SegueError
from features.sealed import file_entries, files_in, first_change, json_object
from features.validation import in_one_line

FORMAT_VERSION = 1
MANIFEST_FILE = "dataset.json"
INTERACTIONS_FOLDER = "interactions"
INGEST_AGAIN = "Run `segue ingest` again"


class FileFacts(BaseModel):
    """One file as it was when the dataset was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    size: int
    """Bytes."""
    rows: int
    sha256: str


class DatasetManifest(BaseModel):
    """All that dataset.json says; an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format_version: int = FORMAT_VERSION
    fingerprint: str
    """sha256 over the names and checksums of all files: two datasets with the same one are equal."""
    vocabulary_hash: str
    num_tracks: int
    num_playlists: int
    num_challenge_playlists: int
    num_interactions: int
    sources: tuple[str, ...]
    """Names of the files it was made from."""
    challenges: tuple[str, ...]
    tracks: str | None
    files: dict[str, FileFacts]


def read_manifest(path: Path) -> DatasetManifest:
    """What dataset.json in the folder `path` says; SegueError when there is none, or one of another version."""
    file = path / MANIFEST_FILE
    if not file.is_file():
        found = "a folder without it" if path.is_dir() else "a file" if path.exists() else "nothing of that name"
        raise SegueError(f"{path}: expected a dataset, a folder with {MANIFEST_FILE}, found {found}. Run `segue ingest` first")
    raw = file.read_bytes()
    if (version := _version(raw)) != FORMAT_VERSION:  # first, so that a newer dataset is called newer and not full of unknown keys
        raise SegueError(f"{file}: expected format version {FORMAT_VERSION}, found {version}. {INGEST_AGAIN}")
    try:
        return DatasetManifest.model_validate_json(raw)
    except ValidationError as error:
        found = in_one_line(error, DatasetManifest)
        raise SegueError(f"{file}: expected the facts of a dataset, found {found}. {INGEST_AGAIN}") from error


def check_files(path: Path, manifest: DatasetManifest) -> None:
    """SegueError where a file is missing, of another size or of other content.

    The checksums of the interactions are not computed: they are most of the bytes.
    """
    hashed = [name for name in manifest.files if not name.startswith(INTERACTIONS_FOLDER)]
    change = first_change(path, manifest.files, hashed)
    if change is None:
        return
    name, what, expected, found = change
    if found is None:
        said = f"expected a file of {expected} bytes, found none"
    elif what == "size":
        said = f"expected {expected} bytes, found {found}"
    else:
        said = f"expected sha256 {expected}, found {found}: the file was changed"
    raise SegueError(f"{path / name}: {said}. {INGEST_AGAIN}")


def file_facts(folder: Path) -> dict[str, FileFacts]:
    """Of every parquet file under `folder`, by its relative name in order."""
    entries = file_entries(folder, sorted(name for name, _ in files_in(folder) if name.endswith(".parquet")))
    return {name: FileFacts(size=entry.size, rows=_rows(folder / name), sha256=entry.sha256) for name, entry in entries.items()}


def fingerprint_of(files: Mapping[str, FileFacts]) -> str:
    """The `fingerprint` of a dataset of these files."""
    return hashlib.sha256("".join(f"{name} {facts.sha256}\n" for name, facts in sorted(files.items())).encode()).hexdigest()


def is_dataset(path: Path) -> bool:
    return (path / MANIFEST_FILE).is_file()


def _rows(path: Path) -> int:
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def _version(raw: bytes) -> object:
    """None where there is none."""
    try:
        return json_object(raw).get("format_version")
    except ValueError:
        return None
