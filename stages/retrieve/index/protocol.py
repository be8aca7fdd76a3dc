"""The interface of an index, and the files that every kind of index has in its folder.

Input: a folder. Output: the kind of the index saved there, and the tracks it covers. Knows no kind's own files and no source.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from features.arrays import MOST_ROWS, indices
from features.domain import Floats, Ints, Queries, Retrieved, SegueError
from features.npy import load_array
from features.reading import RETRAIN
from features.validation import read_json

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
    search_nodes: int = Field(-1, ge=-1, le=MOST_ROWS)

    def save(self, folder: Path) -> None:
        """So that the folder can be opened without the recipe, which may leave the choice of a kind to a measurement."""
        (folder / FILE).write_text(json.dumps(self.model_dump()) + "\n", encoding="utf-8")

    @classmethod
    def open(cls, folder: Path, dim: int) -> SavedIndex:
        """SegueError where the file is damaged, or the index has another dimension than `dim`."""
        path = folder / FILE
        saved = read_json(path, cls, "an index of kind exact or annoy")
        if saved.dim != dim:
            raise SegueError(f"{path}: expected an index of {dim} dimensions, found {saved.dim}. {RETRAIN}")
        return saved


def open_tracks(folder: Path, num_tracks: int) -> Ints:
    """(m,) the tracks in `index_tracks.npy`, none twice; SegueError for one that is not below `num_tracks`, which has no vector."""
    return load_array(folder / "index_tracks.npy", indices(None, below=num_tracks, order="distinct"), mmap=True)


def asks(query_vectors: Floats) -> np.ndarray:
    """(q,) whether each query vector asks for anything: one that overflowed does not."""
    return np.asarray(query_vectors.any(axis=1) & np.isfinite(query_vectors).all(axis=1))
