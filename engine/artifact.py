"""The artifact: one trained model as one folder, sealed by its manifest.

Input: what training wrote into a folder, and what there is to say of it. Output: the folder under its own name with a
`manifest.json` that lists every file's size and sha256; opened again, the same folder, checked. Written under a
temporary name and renamed, read strictly, never a pickle. Knows no model, no index and no Ray: what a file means is
its stage's business.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticSerializationError

from engine.provenance import git_commit, libraries
from features.arrays import MOST_ROWS
from features.atomic import is_free, replaced_whole
from features.domain import SegueError, counted
from features.reading import RETRAIN, reading
from features.sealed import FileEntry, Verify, as_path, file_entries, files_in, first_change, json_object
from features.validation import in_one_line
from stages.settings import SourceName

FORMAT_VERSION = 3
MANIFEST = "manifest.json"
SUFFIXES = (".json", ".npy", ".safetensors", ".parquet", ".ann", ".txt")
"""Plain formats only: none of them can run code when it is read."""
VERSION_LENGTH = 12
CLOCK = "latency_ms"
"""Says how long something took, wherever it stands in a manifest."""
TryOut = Callable[[Path], None]
"""Raises a SegueError where an artifact does not do what it is there for."""


class Source(BaseModel):
    """What the manifest says of one retriever; further keys are its own."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    dimension: int | None = Field(None, ge=1)
    metric: str | None = None
    bias_coordinate: int | None = Field(None, ge=0)
    """The coordinate of the track vectors that is the track's bias, where the source learns one."""
    index: str | None = None

    @model_validator(mode="after")
    def _bias_is_a_coordinate(self) -> Self:
        if self.bias_coordinate is not None and self.bias_coordinate >= (self.dimension or 0):
            raise ValueError(f"expected a bias_coordinate below the dimension {self.dimension}, found {self.bias_coordinate}")
        return self


class Description(BaseModel):
    """What training knows of a model; the writer adds the rest of the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    config: dict[str, Any]
    vocabulary_hash: str
    num_tracks: int = Field(ge=0, le=MOST_ROWS)
    feature_names: tuple[str, ...]
    sources: dict[SourceName, Source]
    metrics: dict[str, Any] = Field(default_factory=dict)


class Manifest(Description):
    """All that `manifest.json` says; an unknown key is refused."""

    format_version: Literal[3]
    version: str
    """Names the model: the first 12 hex digits of the sha256 of all else that is said here but `created` and every `latency_ms`."""
    created: AwareDatetime
    git_commit: str
    libraries: dict[str, str]
    files: dict[str, FileEntry]

    def identity(self) -> str:
        """Whose model it is, in one line: version, date, commit, and how good it was on the training's own masked playlists."""
        check = self.metrics.get("check")
        figures = check.get("ranker") if isinstance(check, dict) else None
        ndcg = figures.get("ndcg@500") if isinstance(figures, dict) else None
        measured = f"nDCG@500 {ndcg:.4f} on {self.metrics.get('queries')} masked playlists" if isinstance(ndcg, float) else "not measured"
        made = f"made {self.created:%Y-%m-%d %H:%M} at commit {self.git_commit[:12]}"
        return f"model {self.version}, {made}, {len(self.sources)} retrievers, {self.num_tracks:,} tracks, {measured}"


@dataclass(frozen=True)
class Artifact:
    """A folder whose files are those of its manifest."""

    path: Path
    manifest: Manifest

    def __repr__(self) -> str:
        counts = f"{counted(self.manifest.num_tracks, 'track')}, {counted(len(self.manifest.sources), 'source')}"
        return f"Artifact({self.path}, version {self.manifest.version}, {counts})"

    def file(self, name: str) -> Path:
        """The path of a listed file; a SegueError where the manifest does not list it."""
        if name not in self.manifest.files:
            found = ", ".join(sorted(self.manifest.files))
            raise SegueError(f"artifact {self.path}: expected the file {name}, found {found}. Its config lacks it. Run `segue train`.")
        return self.path / name


class ArtifactWriter:
    """A context that holds the new artifact's `folder` and names it `path` only when the block ends well.

        with ArtifactWriter(path) as writer:
            ...write files under writer.folder...
            writer.describe(Description(...))

    After the block, `writer.manifest` is what was sealed. A block that fails leaves nothing of the new artifact and all
    of an older one. An older artifact of that name is replaced; anything else of that name is a SegueError at once.
    `try_out` is called with the folder when all is written; what it raises keeps the folder from getting its name.
    """

    folder: Path
    """Where the new artifact's files go; there from the beginning of the block."""

    def __init__(self, path: Path, try_out: TryOut | None = None) -> None:
        self.path = Path(os.path.abspath(path))
        self._try_out = try_out
        self.manifest: Manifest | None = None
        self._description: Description | None = None
        self._open = ExitStack()

    def __enter__(self) -> ArtifactWriter:
        _require_replaceable(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.folder = self._open.enter_context(replaced_whole(self.path))
            self._open.push(self._seal)  # before the folder takes its name
        except OSError as error:
            raise SegueError(f"artifact {self.path}: expected a place to write to, found {error}. Choose another name.") from error
        return self

    def describe(self, description: Description) -> None:
        """Sets what the manifest will say; the last call before the block ends counts."""
        self._description = description

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.__exit__(kind, error, trace)

    def _seal(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            return
        if self._description is None:
            raise SegueError(f"artifact {self.path}: expected a description, found none. Call describe() before the block ends.")
        _require_replaceable(self.path)
        names = sorted(_names(self.folder))
        if MANIFEST in names:
            raise SegueError(f"artifact {self.path}: expected no {MANIFEST} before the block ends, found one. Describe it instead.")
        manifest = _manifest(self._description, file_entries(self.folder, names))
        (self.folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        written = _parse(self.path, _read_manifest(self.folder))
        if self._try_out:
            try:
                self._try_out(self.folder)
            except SegueError as error:
                raise SegueError(f"artifact {self.path}: expected one that opens and answers, found {error}") from error
        self.manifest = written


def open_artifact(path: str | os.PathLike[str], verify: Verify = "full") -> Artifact:
    """The artifact at `path`, after its manifest, the list of its files, their sizes and their sha256 were checked.

    Reads every byte once (about 1 s per GB and core); `verify="size"` leaves the sha256 out. Whatever does not fit is a
    SegueError that names what was expected and what was found.
    """
    path = as_path(path, "artifact")
    folder = Path(os.path.realpath(path))  # a link such as `current` may be pointed elsewhere while we read
    with reading(path, f"a readable folder with {MANIFEST}", "Run `segue train`."):
        manifest = _parse(path, _read_manifest(folder))
        _require_listed(path, set(manifest.files), set(_names(folder)) - {MANIFEST})
        _require_unchanged(path, folder, manifest.files, verify)
    return Artifact(folder, manifest)


def _manifest(description: Description, files: Mapping[str, FileEntry]) -> Manifest:
    """The description, completed; read back from its own text, so that memory holds exactly what the file says."""
    try:
        content = json.loads(description.model_dump_json(fallback=_plain))
    except PydanticSerializationError as error:
        raise SegueError(f"manifest: expected text, numbers, lists and mappings, found {error}. Convert it before describing.") from error
    content["format_version"] = FORMAT_VERSION
    content["git_commit"] = git_commit()
    content["libraries"] = libraries()
    content["files"] = {name: entry.model_dump() for name, entry in files.items()}
    return Manifest.model_validate(content | {"created": datetime.now(UTC).replace(microsecond=0), "version": version_of(content)})


def _plain(value: object) -> object:
    """numpy's numbers and arrays as Python's; anything else has no place in a manifest."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__}")


def version_of(content: Mapping[str, Any]) -> str:
    """The `version` of a manifest's content: a hash of all of it but `version` itself, `created`, and every measured time."""
    sealed = {key: _timeless(value) for key, value in content.items() if key not in ("version", "created")}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()[:VERSION_LENGTH]


def _timeless(value: Any) -> Any:
    """Without what differs each time it is measured: the same training is the same version."""
    if isinstance(value, dict):
        return {key: _timeless(of_key) for key, of_key in value.items() if key != CLOCK}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def _parse(path: Path, raw: bytes) -> Manifest:
    """Format version first, so that a newer artifact is called newer and not full of unknown keys."""
    name = f"artifact {path}: {MANIFEST}"
    try:
        content = json_object(raw)
    except ValueError as error:
        raise SegueError(f"{name}: expected a JSON object, found {error}. {RETRAIN}") from error
    _require(f"{name}: format_version", FORMAT_VERSION, content.get("format_version"))
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        expected, found = ", ".join(Manifest.model_fields), in_one_line(error, Manifest)
        raise SegueError(f"{name}: expected the keys {expected} and no other, found {found}. {RETRAIN}") from error
    for file in manifest.files:
        _require_admitted(name, file)
    _require(f"{name}: version", manifest.version, version_of(content))
    return manifest


def _read_manifest(folder: Path) -> bytes:
    if (folder / MANIFEST).is_symlink():
        raise SegueError(f"artifact {folder}: expected a plain {MANIFEST}, found a link. {RETRAIN}")
    return (folder / MANIFEST).read_bytes()


def _names(folder: Path) -> Iterator[str]:
    """Every file under `folder` by its relative name; a link, a device or a name that is not admitted is a SegueError."""
    for name, plain in files_in(folder):
        if not plain:
            raise SegueError(f"artifact {folder}: expected plain files and folders, found {name}, which is neither. {RETRAIN}")
        if name != MANIFEST:
            _require_admitted(f"artifact {folder}", name)
        yield name


def _require_admitted(where: str, name: str) -> None:
    parts = PurePosixPath(name).parts
    escapes = name.startswith("/") or ".." in parts or "/".join(parts) != name or "\\" in name or "\0" in name
    if escapes or name == MANIFEST or PurePosixPath(name).suffix not in SUFFIXES:
        raise SegueError(f"{where}: expected names inside the folder that end in {', '.join(SUFFIXES)}, found {name!r}. {RETRAIN}")


def _require_listed(path: Path, listed: set[str], present: set[str]) -> None:
    if listed != present:
        missing, extra = (", ".join(sorted(names)) or "none" for names in (listed - present, present - listed))
        found = f"{len(present)}; missing: {missing}; not listed: {extra}"
        raise SegueError(f"artifact {path}: expected the {len(listed)} files of its manifest, found {found}. {RETRAIN}")


def _require_unchanged(path: Path, folder: Path, files: Mapping[str, FileEntry], verify: Verify) -> None:
    change = first_change(folder, files, files if verify == "full" else ())
    if change is not None:
        what = f"size of {change.name} in bytes" if change.what == "size" else f"sha256 of {change.name}"
        _require(f"artifact {path}: {what}", change.expected, change.found)


def _require(what: str, expected: object, found: object) -> None:
    if expected != found or type(expected) is not type(found):
        raise SegueError(f"{what}: expected {expected}, found {found!r}. {RETRAIN}")


def _require_replaceable(path: Path) -> None:
    """Nothing there, an empty folder, or an artifact of any format version."""
    if is_free(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise SegueError(f"{path}: expected a new name or an older artifact, found a file or a link. Choose another name.")
    if not _is_artifact(path):
        found = f"a folder with {', '.join(sorted(entry.name for entry in path.iterdir())[:5])}"
        raise SegueError(f"{path}: expected a new name or an older artifact, found {found}. Choose another name.")


def _is_artifact(path: Path) -> bool:
    try:
        return {"format_version", "version", "files"} <= json_object((path / MANIFEST).read_bytes()).keys()
    except (OSError, ValueError):
        return False
