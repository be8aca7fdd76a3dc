"""Cache of opened models: the version that is served, and beside it the next or the previous one.

Input: the path of an artifact, and a function that opens what this process needs of it. Output: that part by version. It is
opened once, in a thread of its own, while calls to the versions that are already open go on. Independent of HTTP and of Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from engine.artifact import Artifact, open_artifact
from features.domain import SegueError

T = TypeVar("T")
MAX_OPEN = 2
"""Versions that stay open: while the previous one is still open, going back to it takes no time."""


class WrongVersion(SegueError):
    """A call names a model version that is not open in this process; versions must never be combined."""


@dataclass(frozen=True)
class ModelRef:
    """Names a model: the path of its artifact, the same on every node, and the version expected there."""

    path: str
    version: str


class ModelCache(Generic[T]):
    """What `open_part` returns for each artifact, by model version."""

    def __init__(self, name: str, open_part: Callable[[Artifact], T]) -> None:
        self._name, self._open_part = name, open_part
        self._parts: dict[str, T] = {}  # the most recently used version is last
        self._opening = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-opens")

    def get(self, version: str) -> T:
        """WrongVersion where it is not open."""
        if version not in self._parts:
            found = " and ".join(self._parts) or "none"
            raise WrongVersion(f"{self._name}: expected model {version}, found {found}. A rolling change is under way. Ask again")
        self._parts[version] = part = self._parts.pop(version)
        return part

    async def prepare(self, model: ModelRef) -> None:
        """Opens `model` unless it is open; a model that cannot be opened is a SegueError and changes nothing."""
        async with self._opening:
            if model.version in self._parts:
                return
            part = await asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._open_part(open_ref(model)))
            while len(self._parts) >= MAX_OPEN:
                del self._parts[next(iter(self._parts))]
            self._parts[model.version] = part


def open_ref(model: ModelRef) -> Artifact:
    """The artifact that `check_artifact` checked in full; where another one has replaced it since, a WrongVersion."""
    artifact = open_artifact(Path(model.path), verify="size")
    if artifact.manifest.version != model.version:
        raise WrongVersion(f"{model.path}: expected model {model.version}, found {artifact.manifest.version}. Deploy again")
    return artifact


def check_artifact(path: str) -> ModelRef:
    """Reads every file of the artifact at `path` and compares it with the manifest; a damaged artifact is a SegueError."""
    artifact = open_artifact(Path(path))
    return ModelRef(str(artifact.path.resolve()), artifact.manifest.version)
