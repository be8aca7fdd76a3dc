"""The interface of an index, and the files that every kind of index has in its folder.

Input: a folder. Output: the kind of the index saved there, and the tracks it covers. Knows no kind's own files and no source.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.domain import Floats, Ints, Queries, Retrieved, SegueError
from features.npy import RETRAIN, load_array
from features.validation import in_one_line

FILE = "index.json"
Kind = Literal["exact", "annoy"]


class Index(Protocol):
    """Finds the largest inner products with a query vector; cosines where the track vectors have length 1."""

    @property
    def kind(self) -> Kind: ...

    def search(self, query_vectors: Floats, queries: Queries, n: int) -> Retrieved:
        """The best `n` tracks for each row of `query_vectors` (q, dim), none that its query excludes.

        A query vector of zeros asks nothing and gets a row of NO_TRACK.
        """
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes the index into the existing `folder`; returns its figures for the manifest."""
        ...


class SavedIndex(BaseModel):
    """`index.json`: what is needed to open the files beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Kind
    dim: int = Field(ge=1)
    search_nodes: int = Field(-1, ge=-1)

    def save(self, folder: Path) -> None:
        """So that the folder can be opened without the recipe, which may leave the choice of a kind to a measurement."""
        (folder / FILE).write_text(json.dumps(self.model_dump()) + "\n", encoding="utf-8")

    @classmethod
    def open(cls, folder: Path, dim: int) -> SavedIndex:
        """SegueError where the file is damaged, or the index has another dimension than `dim`."""
        path = folder / FILE
        try:
            saved = cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            found = in_one_line(error, cls) if isinstance(error, ValidationError) else str(error)
            raise SegueError(f"{path}: expected an index of kind exact or annoy, found {found}. {RETRAIN}") from error
        if saved.dim != dim:
            raise SegueError(f"{path}: expected an index of {dim} dimensions, found {saved.dim}. {RETRAIN}")
        return saved


def open_tracks(folder: Path, num_tracks: int) -> Ints:
    """(m,) the tracks in `index_tracks.npy`; SegueError for one that is not below `num_tracks`, which has no vector."""
    path = folder / "index_tracks.npy"
    tracks: Ints = load_array(path, dtype=np.int32, shape=(None,), mmap=True)
    if len(tracks) and not 0 <= tracks.min() <= tracks.max() < num_tracks:
        raise SegueError(f"{path}: expected tracks below {num_tracks}, found {tracks.min()} to {tracks.max()}. {RETRAIN}")
    return tracks


def asks(query_vectors: Floats) -> np.ndarray:
    """(q,) whether each query vector asks for anything."""
    return np.asarray(query_vectors.any(axis=1))
