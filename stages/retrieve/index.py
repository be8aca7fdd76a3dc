"""What an index promises, and how one is chosen: the structure searched for the largest scores.

Input: track vectors and a recipe. Output: an index that answers `search`. Every approximate index has the exact one as
its twin. Knows no source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from features.domain import Floats, Ints, Queries, Retrieved


class Index(Protocol):
    """Searched by inner product, or by cosine where it was built over vectors of length 1."""

    def search(self, query_vectors: Floats, queries: Queries, n: int) -> Retrieved:
        """The best `n` tracks for each row of `query_vectors` (q, dim), none that its query excludes.

        A query vector of zeros asks nothing and gets a row of NO_TRACK.
        """
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes the index into the existing `folder`; returns what `IndexRecipe.open` and people need to know."""
        ...


class IndexRecipe(BaseModel):
    """Which structure, and how much work it may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["exact", "annoy"] = "exact"
    trees: int = Field(50, ge=1)
    """Annoy only: more trees, more recall, a larger file."""
    search_nodes: int = Field(-1, ge=-1)
    """Annoy only: nodes inspected per search; -1 is trees x n."""

    def build(self, vectors: Floats, tracks: Ints, seed: int) -> Index:
        """An index over the rows `tracks` (m,) of `vectors` (num_tracks, dim)."""
        from stages.retrieve.approximate import ApproximateIndex
        from stages.retrieve.exact import ExactIndex

        if self.kind == "exact":
            return ExactIndex.build(vectors, tracks)
        return ApproximateIndex.build(vectors, tracks, self.trees, self.search_nodes, seed)

    def open(self, folder: Path, dim: int) -> Index:
        """What `save` wrote, its arrays mapped into memory."""
        from stages.retrieve.approximate import ApproximateIndex
        from stages.retrieve.exact import ExactIndex

        if self.kind == "exact":
            return ExactIndex.open(folder, dim)
        return ApproximateIndex.open(folder, dim, self.search_nodes)


def asks(query_vectors: Floats) -> np.ndarray:
    """(q,) whether each query vector asks for anything."""
    return np.asarray(query_vectors.any(axis=1))
