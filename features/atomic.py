"""Files that appear whole or not at all.

Input: a path and a block that writes. Output: the file under its name, once the block ended well and its bytes are on disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary sibling to write to, which takes the name `path` when the block ends well and is gone when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        yield scratch
        flush(scratch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


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
