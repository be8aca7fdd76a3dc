"""dataset.json, the manifest of a dataset: its files with size, row count and sha256, and the counts of the dataset.

Input: the folder of a dataset. Output: a DatasetManifest, or one SegueError that says what does not fit: names other than a dataset's
own, a fingerprint that is not theirs, a file that is not as it was written. Knows no table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from features.domain import SegueError
from features.sealed import file_entries, files_in, first_change, json_object, unlisted
from features.validation import in_one_line

FORMAT_VERSION = 1
MANIFEST_FILE = "dataset.json"
INTERACTIONS_FOLDER = "interactions"
TABLES = VOCABULARY_FILE, CATALOG_FILE, PLAYLISTS_FILE = "vocabulary.parquet", "catalog.parquet", "playlists.parquet"
INGEST_AGAIN = "Run `segue ingest` again"
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class FileFacts(BaseModel):
    """One file as it was when the dataset was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    size: Count
    """Bytes."""
    rows: Count
    sha256: Sha256


class DatasetManifest(BaseModel):
    """All that dataset.json says; an unknown key is refused, and so is what contradicts itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format_version: int = FORMAT_VERSION
    fingerprint: Sha256
    """sha256 over the names and checksums of all files: two datasets with the same one are equal."""
    vocabulary_hash: Sha256
    num_tracks: Count
    num_playlists: Count
    num_challenge_playlists: Count
    num_interactions: Count
    sources: tuple[str, ...]
    """Names of the files it was made from."""
    challenges: tuple[str, ...]
    tracks: str | None
    files: dict[str, FileFacts]

    @model_validator(mode="after")
    def _has_the_files_of_a_dataset(self) -> Self:
        names = {*TABLES, *self.parts}
        if unknown := sorted(self.files.keys() - names):
            raise ValueError(f"files: expected those of a dataset, found {unknown[0]!r}")
        if missing := sorted(names - self.files.keys()):
            raise ValueError(f"files: expected {missing[0]} among them, found none")
        for name, rows in self._rows().items():
            if rows != (found := sum(facts.rows for file, facts in self.files.items() if file.startswith(name))):
                raise ValueError(f"{name}: expected {rows} rows, found {found}")
        if self.fingerprint != (expected := fingerprint_of(self.files)):
            raise ValueError(f"fingerprint: expected {expected}, that of its files, found {self.fingerprint}")
        return self

    def _rows(self) -> dict[str, int]:
        """Of each file, or of all in a folder."""
        tracks, playlists, interactions = self.num_tracks, self.num_playlists, self.num_interactions
        return {VOCABULARY_FILE: tracks, CATALOG_FILE: tracks, PLAYLISTS_FILE: playlists, INTERACTIONS_FOLDER: interactions}

    @property
    def parts(self) -> tuple[str, ...]:
        """The files of the interactions, in their order."""
        count = len(self.files.keys() - {*TABLES})
        return tuple(f"{INTERACTIONS_FOLDER}/part-{i:05}.parquet" for i in range(count))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(facts.size for facts in self.files.values())


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


def check_files(path: Path, manifest: DatasetManifest, hashed: Iterable[str]) -> None:
    """SegueError where a file is missing, of another size, or none of the manifest's, and where the sha256 of one of the `hashed` is
    another."""
    if stranger := unlisted(path, {*manifest.files, MANIFEST_FILE}):
        raise SegueError(f"{path}: expected the files of {MANIFEST_FILE}, plain files all, found {stranger!r} besides. {INGEST_AGAIN}")
    if change := first_change(path, manifest.files, hashed):
        raise SegueError(f"{path}/{change}. {INGEST_AGAIN}")


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
