"""What a training has finished so far, in files: so that it can go on after a failure.

Input: what a training is made of, and the results of its phases. Output: a storage whose name is a hash of the former, with
one folder per finished phase. A phase that is there is whole; changed data, another config or another number of workers never
find it. Knows neither Ray nor what a phase computes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from engine.artifact import FORMAT_VERSION as ARTIFACT_VERSION
from engine.config import Config
from engine.train.storage import Storage, storage_at

FORMAT_VERSION = 3
"""Of the phases' files, and of what the phases compute: raise it when either changes, and no older run is resumed."""
NAME_LENGTH = 16


@dataclass(frozen=True)
class Run:
    """The phases of one training."""

    storage: Storage

    @classmethod
    def of(cls, place: Path | str, fingerprint: str, config: Config, workers: int, older: Sequence[str] = ()) -> Run:
        """At `place`, a path or a URI, under the name of all that decides what the phases compute; `older` is what names an older
        model and what is taken from it."""
        parts = [FORMAT_VERSION, ARTIFACT_VERSION, fingerprint, config.model_dump(mode="json"), workers, *older]
        return cls(storage_at(place, hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:NAME_LENGTH]))

    def has(self, phase: str) -> bool:
        """Whether the phase was finished, now or by an earlier start."""
        return self.storage.has(phase)

    def path(self, phase: str) -> Path:
        """A folder of this machine to read the finished phase from."""
        return self.storage.path(phase)

    @contextmanager
    def keep(self, phase: str, *, durable: bool = True) -> Iterator[Path]:
        """A folder to write into, which is the finished phase when the block ends well and is gone when it does not; what need
        not be `durable` costs no wait for the disk."""
        with self.storage.keep(phase, durable=durable) as folder:
            try:
                yield folder
            except SafetensorError as error:  # it tells of a full disk in words alone
                refused = re.search(r"\(os error (\d+)\)", str(error))
                raise (OSError(int(refused[1]), os.strerror(int(refused[1])), str(folder)) if refused else error) from error

    def drop(self, phase: str) -> None:
        """Forgets the phase, if it was finished."""
        self.storage.drop(phase)
