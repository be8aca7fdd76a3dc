"""The model versions one process holds: the one that is asked for, and beside it the next one or the one before.

Input: where an artifact lies, and how to open what this process needs of it. Output: that part by version, opened once, in
a thread of its own, while the versions already held go on being asked. Knows neither HTTP nor Ray.
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
MOST_HELD = 2
"""Versions kept: with the one before still there, going back takes no time."""


class WrongVersion(SegueError):
    """A process holds other models than the call is meant for; the two must never be combined."""


@dataclass(frozen=True)
class ModelRef:
    """Which artifact: its path, the same on every node, and the version that must be there."""

    path: str
    version: str


class ModelCache(Generic[T]):
    """What `open_part` makes of each artifact."""

    def __init__(self, name: str, open_part: Callable[[Artifact], T]) -> None:
        self._name, self._open = name, open_part
        self._held: dict[str, T] = {}  # the version asked last stands last
        self._opening = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-opens")

    def of(self, version: str) -> T:
        """WrongVersion where it is not held."""
        if version not in self._held:
            found = " and ".join(self._held) or "none"
            raise WrongVersion(f"{self._name}: expected model {version}, found {found}. A rolling change is under way. Ask again")
        self._held[version] = part = self._held.pop(version)
        return part

    async def prepare(self, model: ModelRef) -> None:
        """Opens `model` unless it is held; one that cannot be opened is a SegueError and changes nothing."""
        async with self._opening:
            if model.version in self._held:
                return
            part = await asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._open(open_version(model)))
            while len(self._held) >= MOST_HELD:
                del self._held[next(iter(self._held))]
            self._held[model.version] = part


def open_version(model: ModelRef) -> Artifact:
    """The artifact that was checked in full before it was named; a folder that was exchanged since is a WrongVersion."""
    artifact = open_artifact(Path(model.path), verify="size")
    if artifact.manifest.version != model.version:
        raise WrongVersion(f"{model.path}: expected model {model.version}, found {artifact.manifest.version}. Deploy again")
    return artifact


def checked(path: str) -> ModelRef:
    """The artifact at `path`, every file of it read and compared with its manifest; a damaged one is a SegueError."""
    artifact = open_artifact(Path(path))
    return ModelRef(str(artifact.path.resolve()), artifact.manifest.version)
