"""Files and folders that appear under their name whole or not at all.

Input: a path and a block that writes. Output: the file or folder under that path, once the block has ended well. Whoever looks
meanwhile finds what was there before; a block that fails leaves that as it was, and nothing of its own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from features.domain import SegueError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary sibling to write a file to, which takes the name `path` when the block ends well and is gone when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        yield scratch
        flush(scratch)
        scratch.replace(path)
        flush(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def replaced_whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary folder to write into, which takes the name `path` when the block ends well and is gone when it does not.

    It lies beside `path`, or beside the first of its parents that is missing, so taking the name is a rename. What had the name
    before is removed after that. Everything is on the disk before the rename; not `durable`, it may come there later, and
    a machine that loses its power may find files cut short. OSError where the system refuses.
    """
    path = Path(os.path.abspath(path))
    beside = next(parent for parent in path.parents if parent.exists())
    workplace = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=beside))
    try:
        new = workplace / "new"
        new.mkdir()
        with os_errors(path):
            yield new
        if durable:
            flush_tree(new)
        path.parent.mkdir(parents=True, exist_ok=True)
        _take_name(new, path, workplace / "old")
        if durable:
            for parent in path.parents[: path.parents.index(beside) + 1]:  # those that were made just now, too
                flush(parent)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def is_free(path: Path) -> bool:
    """Nothing has the name, or an empty folder has."""
    return not os.path.lexists(path) or (path.is_dir() and not path.is_symlink() and not any(path.iterdir()))


def exchange(one: Path, other: Path) -> bool:
    """Swaps two names in one step, by Linux's renameat2 with RENAME_EXCHANGE. False where system or file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, flags = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), flags) == 0)


def _take_name(new: Path, path: Path, old: Path) -> None:
    """`new` is `path` from now on; what was `path` before is `new` or `old`, for the caller to remove."""
    if not os.path.lexists(path):
        new.rename(path)
    elif not exchange(new, path):  # no such call here: for a moment nothing has the name
        try:
            path.rename(old)
            new.rename(path)
        finally:
            if old.exists() and not path.exists():
                old.rename(path)


def flush(path: Path) -> None:
    """Returns when the file's bytes, or the folder's names, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_tree(folder: Path) -> None:
    """The same of everything under `folder`, its contents before itself."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in (*names, "."):
            flush(Path(parent, name))


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """A refusal of the system that a library reports as an error of its own becomes an OSError again, with its number and `path`.

    Polars and safetensors report a full disk as an error of theirs, numpy as a number of bytes that were not written.
    """
    try:
        yield
    except SegueError:
        raise
    except Exception as error:
        number = _number_of(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _number_of(error: Exception) -> int | None:
    """The system's number for what it refused, where a library has wrapped it in words."""
    if isinstance(error, OSError):
        return errno.ENOSPC if error.errno is None and re.search(r"requested and \d+ written", str(error)) else None
    refused = re.search(r"\(os error (\d+)\)", str(error))
    return int(refused[1]) if refused else None
