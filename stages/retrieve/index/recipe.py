"""What an index promises, and how one is asked for: the structure searched for the largest scores.

Input: track vectors and a recipe. Output: an index that answers `search`, or the saved one of a folder, whose kind its
own files tell. Every approximate index has the exact one as its twin. Knows no source; `choice` measures which to take.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.domain import Floats, Ints, Queries, Retrieved, SegueError
from features.npy import RETRAIN, load_array
from features.validation import in_one_line

FILE = "index.json"


class Index(Protocol):
    """Searched by inner product, or by cosine where it was built over vectors of length 1."""

    def search(self, query_vectors: Floats, queries: Queries, n: int) -> Retrieved:
        """The best `n` tracks for each row of `query_vectors` (q, dim), none that its query excludes.

        A query vector of zeros asks nothing and gets a row of NO_TRACK.
        """
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes the index into the existing `folder`; returns what people need to know."""
        ...


class IndexRecipe(BaseModel):
    """Which structure, and how much work it may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["auto", "exact", "annoy"] = "auto"
    """auto: the one with the least work of those that reach `recall`; a source that will not serve stays exact."""
    recall: float = Field(0.95, gt=0, le=1)
    """auto only: the share of the exact best that Annoy must find."""
    at: int = Field(1_000, ge=1)
    """Tracks asked for when the index is measured: what each source proposes."""
    trees: int = Field(10, ge=1)
    """Annoy only: more trees, more recall, a longer build and a larger file."""
    search_nodes: int = Field(-1, ge=-1)
    """annoy only: nodes inspected per search; -1 is trees x n."""
    nodes_per_track: tuple[Annotated[int, Field(ge=1)], ...] = Field((30, 60, 120), min_length=1)
    """auto only: nodes inspected for each of the `at` tracks, tried in ascending order. On no real vectors did Annoy reach
    0.95 of 1,000 tracks with fewer than 30 (benchmarks/results/retrieval.json), so where these already cost more than exact
    search, no tree is planted."""

    def build(self, vectors: Floats, tracks: Ints, seed: int) -> Index:
        """An index over the rows `tracks` (m,) of `vectors` (num_tracks, dim); with auto the exact one, the choice's measure."""
        from stages.retrieve.index.approximate import ApproximateIndex
        from stages.retrieve.index.exact import ExactIndex

        if self.kind == "annoy":
            return ApproximateIndex.build(vectors, tracks, self.trees, self.search_nodes, seed)
        return ExactIndex.build(vectors, tracks)

    @staticmethod
    def open(folder: Path, vectors: Floats) -> Index:
        """What `save` wrote, whatever kind it is, its arrays mapped into memory, over the `vectors` it was built over."""
        from stages.retrieve.index.approximate import ApproximateIndex
        from stages.retrieve.index.exact import ExactIndex

        saved = _Saved.read(folder / FILE, vectors.shape[1])
        if saved.kind == "exact":
            return ExactIndex.open(folder, vectors)
        return ApproximateIndex.open(folder, vectors, saved.search_nodes)


class _Saved(BaseModel):
    """What `index.json` says: enough to open the files beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["exact", "annoy"]
    dim: int = Field(ge=1)
    search_nodes: int = Field(-1, ge=-1)

    @classmethod
    def read(cls, path: Path, dim: int) -> _Saved:
        try:
            saved = cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            found = in_one_line(error, cls) if isinstance(error, ValidationError) else str(error)
            raise SegueError(f"{path}: expected an index of kind exact or annoy, found {found}. {RETRAIN}") from error
        if saved.dim != dim:
            raise SegueError(f"{path}: expected an index of {dim} dimensions, found {saved.dim}. {RETRAIN}")
        return saved


def save_kind(folder: Path, kind: Literal["exact", "annoy"], dim: int, search_nodes: int = -1) -> None:
    """So that the folder can be opened without the recipe, which may leave the kind to be chosen."""
    said = _Saved(kind=kind, dim=dim, search_nodes=search_nodes)
    (folder / FILE).write_text(json.dumps(said.model_dump()) + "\n", encoding="utf-8")


def open_tracks(folder: Path, num_tracks: int) -> Ints:
    """(m,) what was saved as `index_tracks.npy`; a track without a vector is an error, for other memory would be read in its place."""
    path = folder / "index_tracks.npy"
    tracks: Ints = load_array(path, dtype=np.int32, shape=(None,), mmap=True)
    if len(tracks) and not 0 <= tracks.min() <= tracks.max() < num_tracks:
        raise SegueError(f"{path}: expected tracks below {num_tracks}, found {tracks.min()} to {tracks.max()}. {RETRAIN}")
    return tracks


def asks(query_vectors: Floats) -> np.ndarray:
    """(q,) whether each query vector asks for anything."""
    return np.asarray(query_vectors.any(axis=1))
