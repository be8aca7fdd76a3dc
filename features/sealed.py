"""A sealed folder: a list of its files with size and sha256, and whoever opens it compares.

Input: a folder, and what its manifest says of its files. Output: the entries for a new manifest, or the first file that is not as
listed. Datasets and artifacts are such folders; what else their manifests say, and how they word an error, is theirs. A folder
without a manifest of its own, such as a finished phase of a training, gets a plain list (`seal`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from features.domain import SegueError
from features.validation import in_one_line

SEAL = "seal.json"
"""The list of a folder that has no manifest of its own."""
Verify = Literal["full", "size"]
"""What is compared when a sealed folder is opened: sizes and sha256, or sizes alone."""
BUFFER = 1 << 20
"""Bytes read at once."""
THREADS = 4
DEEPEST = 32
"""Levels of a manifest; whoever reads one may follow them by calls within calls."""


class Sealed(Protocol):
    """What a manifest says of a file, at least."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def sha256(self) -> str:
        """Hex digits."""
        ...


class FileEntry(BaseModel):
    """One file as it was when the folder was sealed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int
    """Bytes."""


class Change(NamedTuple):
    """A file that is not as its manifest says."""

    name: str
    what: Literal["size", "sha256"]
    expected: int | str
    found: int | str | None
    """None where there is no such file."""

    def __str__(self) -> str:
        """Without a full stop."""
        if self.found is None:
            return f"{self.name}: expected a file of {self.expected} bytes, found none"
        if self.what == "size":
            return f"{self.name}: expected {self.expected} bytes, found {self.found}"
        return f"{self.name}: expected sha256 {self.expected}, found {self.found}: the file was changed"


class Seal(BaseModel):
    """What a folder's list says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """What was sealed: a folder that is whole, but another's, is not this one."""
    files: dict[str, FileEntry]


def as_path(path: str | os.PathLike[str], what: str) -> Path:
    """`path`, given as text or as a Path; a SegueError for anything else, which says `what` was to be opened."""
    if not isinstance(path, str | os.PathLike):
        raise SegueError(f"{what}: expected the path of a folder, as text or a Path, found {path!r} ({type(path).__name__})")
    return Path(path)


def files_in(folder: Path) -> Iterator[tuple[str, bool]]:
    """Every name under `folder`, relative to it, that is no folder; and whether it is a plain file and no link or device."""
    for parent, folders, files in os.walk(folder):
        for entry in (Path(parent, name) for name in (*folders, *files)):
            mode = entry.lstat().st_mode
            if not stat.S_ISDIR(mode):
                yield entry.relative_to(folder).as_posix(), stat.S_ISREG(mode)


def file_entries(folder: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """By name, in the order of `names`. Hashed side by side (hashing lets go of the interpreter's lock): about 1 s per GB and core."""
    names = list(names)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        return dict(zip(names, pool.map(_entry, (folder / name for name in names)), strict=True))


def first_change(folder: Path, files: Mapping[str, Sealed], hashed: Iterable[str]) -> Change | None:
    """The first of `files` that is missing or of another size; else the first of the names `hashed` whose sha256 is another.

    Sizes first: they cost nothing, and a file cut short is the usual damage. None where all is as listed.
    """
    for name, listed in files.items():
        found = _size(folder / name)
        if found != listed.size:
            return Change(name, "size", listed.size, found)
    for name, entry in file_entries(folder, hashed).items():
        if entry.sha256 != files[name].sha256:
            return Change(name, "sha256", files[name].sha256, entry.sha256)
    return None


def unlisted(folder: Path, listed: Container[str]) -> str | None:
    """The first name under `folder` that is not `listed`, or is no plain file; None where there is none."""
    return next((name for name, plain in sorted(files_in(folder)) if not plain or name not in listed), None)


def seal(folder: Path, name: str) -> None:
    """Lists the files of `folder`, which is `name`. The last file to be written: without it the folder is not whole."""
    entries = file_entries(folder, sorted(file for file, _ in files_in(folder)))
    (folder / SEAL).write_text(Seal(name=name, files=entries).model_dump_json(indent=1) + "\n", encoding="utf-8")


def broken_seal(folder: Path, name: str) -> str | None:
    """What is not as it was when `folder` was sealed as `name`: `file: expected …, found …`, without a full stop. None where all is.

    Reads every byte once (about 1 s per GB and core).
    """
    if not (folder / SEAL).is_file():
        return f"{SEAL}: expected the list of the files, found none"
    try:
        sealed = Seal.model_validate_json((folder / SEAL).read_bytes())
    except ValidationError as error:
        return f"{SEAL}: expected the list of the files, found {in_one_line(error, Seal)}"
    if sealed.name != name:
        return f"{SEAL}: expected the list of {name}, found that of {sealed.name!r}"
    if stranger := unlisted(folder, {*sealed.files, SEAL}):
        return f"{stranger}: expected no such file, found one"
    change = first_change(folder, sealed.files, sealed.files)
    return None if change is None else str(change)


def copy_part(folder: Path, part: str, to: Path) -> None:
    """Copies what is under `part` of a folder that was sealed; SegueError where a copy is not what was sealed."""
    shutil.copytree(folder / part, to, dirs_exist_ok=True)
    files = Seal.model_validate_json((folder / SEAL).read_bytes()).files
    entries = {name.removeprefix(f"{part}/"): entry for name, entry in files.items() if name.startswith(f"{part}/")}
    if change := first_change(to, entries, entries):
        raise SegueError(f"copy of {folder / part}: {change}. Run the same command again")


def json_object(raw: bytes) -> dict[str, Any]:
    """The object that `raw` is, its numbers finite and its values nested no deeper than DEEPEST; a ValueError that says what it is
    instead."""
    try:
        content = json.loads(raw, parse_float=_finite, parse_constant=_finite)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__}")
    level: list[Any] = [content]
    for _ in range(DEEPEST):
        level = [below for value in level for below in (value.values() if isinstance(value, dict) else value)]
        level = [value for value in level if isinstance(value, dict | list)]
    if level:
        raise ValueError(f"values nested deeper than {DEEPEST}")
    return content


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"the number {number}")
    return value


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _entry(path: Path) -> FileEntry:
    digest, size, buffer = hashlib.sha256(), 0, memoryview(bytearray(BUFFER))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            size += count
    return FileEntry(sha256=digest.hexdigest(), size=size)
