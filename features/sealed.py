"""A sealed folder: a manifest lists its files with size and sha256, and whoever opens it compares.

Input: a folder, and what its manifest says of its files. Output: the entries for a new manifest, or the first file that is not as
listed. Datasets and artifacts are such folders; what else their manifests say, and how they word an error, is theirs.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from features.domain import SegueError

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
