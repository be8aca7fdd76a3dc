"""What a training has finished so far, in files: so that it can go on after a failure, and tell how far it is.

Input: what a training is made of, and the results of its phases. Output: a folder whose name is a hash of the former, with
one folder per finished phase. A phase is written under another name and renamed, so a phase that is there is whole; changed
data, another config or another number of workers never find it. Knows neither Ray nor what a phase computes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from engine.artifact import FORMAT_VERSION as ARTIFACT_VERSION
from engine.config import Config
from features.dataset import replaced_whole
from features.domain import SegueError
from stages.protocols import Report, Retriever

FORMAT_VERSION = 2
"""Of the phases' files, and of what the phases compute: raise it when either changes, and no older run is resumed."""
NAME_LENGTH = 16
FILES, SAID = "files", "said.json"


@dataclass(frozen=True)
class Run:
    """The folder of one training."""

    folder: Path
    """Absolute; on a cluster a path that every worker and the driver see."""

    @classmethod
    def of(cls, storage: Path, fingerprint: str, config: Config, workers: int) -> Run:
        """Below `storage`, under the name of all that decides what the phases compute."""
        parts = [FORMAT_VERSION, ARTIFACT_VERSION, fingerprint, config.model_dump(mode="json"), workers]
        return cls(storage.absolute() / hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:NAME_LENGTH])

    def path(self, phase: str) -> Path:
        return self.folder / phase

    def has(self, phase: str) -> bool:
        """Whether the phase was finished, now or by an earlier start."""
        return self.path(phase).is_dir()

    @contextmanager
    def keep(self, phase: str) -> Iterator[Path]:
        """A folder to write into, which is the finished phase when the block ends well and is gone when it does not."""
        with replaced_whole(self.path(phase)) as folder:
            try:
                yield folder
            except SafetensorError as error:  # it tells of a full disk in words alone
                refused = re.search(r"\(os error (\d+)\)", str(error))
                raise (OSError(int(refused[1]), os.strerror(int(refused[1])), str(folder)) if refused else error) from error

    def drop(self, phase: str) -> None:
        """What was kept of the phase, if anything, is gone."""
        shutil.rmtree(self.path(phase), ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder; nobody else, on this machine at least, runs the same training meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                found = "another one that has begun and not ended"
                raise SegueError(f"{self.folder}: expected no other training of this data and config, found {found}") from error
            yield

    def remove(self) -> None:
        """All of it, and the storage too when nothing else is in there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()


def keep_source(run: Run, phase: str, source: Retriever) -> None:
    with run.keep(phase) as folder:
        (folder / FILES).mkdir()
        said = source.save(folder / FILES)
        (folder / SAID).write_text(json.dumps(said, default=lambda value: value.tolist()), encoding="utf-8")


@dataclass(frozen=True)
class KeptSource:
    """A trained source as its phase left it; saved again it is the same files and the same words."""

    folder: Path

    @property
    def files(self) -> Path:
        return self.folder / FILES

    def save(self, folder: Path) -> dict[str, Any]:
        shutil.copytree(self.files, folder, dirs_exist_ok=True)
        said: dict[str, Any] = json.loads((self.folder / SAID).read_text(encoding="utf-8"))
        return said


@dataclass(frozen=True)
class Told:
    """A Report that another process reads: one line of JSON per call."""

    path: Path

    def __call__(self, phase: str, done: float, figures: Mapping[str, float]) -> None:
        line = json.dumps([phase, done, dict(figures)])
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


class Listener:
    """Passes on what was told since it last listened."""

    def __init__(self, told: Told, report: Report) -> None:
        self.report = report
        self._file = told.path.open("w+", encoding="utf-8")  # empties it
        self._rest = ""

    def listen(self) -> None:
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for line in lines:
            phase, done, figures = json.loads(line)
            self.report(phase, done, figures)

    def close(self) -> None:
        self._file.close()
