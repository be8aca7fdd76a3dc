"""How to build an index, the structure that is searched for the largest scores, and how to open a saved one.

Input: track vectors and a recipe, or a folder, whose own files say which kind of index it holds. Output: an Index. Every
approximate index has the exact one as its twin. Knows no source; `selection` measures which kind to take.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from features.domain import Floats, Ints
from stages.retrieve.index.approximate import ApproximateIndex
from stages.retrieve.index.exact import ExactIndex
from stages.retrieve.index.protocol import Index, SavedIndex
from stages.settings import Settings


class IndexRecipe(Settings):
    """Which kind of index, and how much work a search may do."""

    old_names: ClassVar = {"trees": "n_trees", "search_nodes": "search_k"}

    kind: Literal["auto", "exact", "annoy"] = "auto"
    """auto: the one with the least work of those that reach `recall`; a source that will not serve stays exact."""
    recall: float = Field(0.95, gt=0, le=1)
    """auto only: the share of the exact best that Annoy must find."""
    at: int = Field(1_000, ge=1)
    """Tracks per query when the index is measured: as many as each source proposes."""
    n_trees: int = Field(10, ge=1)
    """annoy only: more trees, more recall, a longer build and a larger file."""
    search_k: int = Field(-1, ge=-1)
    """annoy only: nodes inspected per search; -1 is n_trees x n."""
    nodes_per_track: tuple[Annotated[int, Field(ge=1)], ...] = Field((30, 60, 120), min_length=1)
    """auto only: nodes inspected for each of the `at` tracks, tried in ascending order. On no real vectors did Annoy reach
    0.95 of 1,000 tracks with fewer than 30 (benchmarks/results/retrieval.json), so where these already cost more than exact
    search, no tree is built."""

    def build(self, vectors: Floats, tracks: Ints, seed: int) -> Index:
        """An index over the rows `tracks` (m,) of `vectors` (num_tracks, dim); with auto the exact one, which `selection` may replace."""
        if self.kind == "annoy":
            return ApproximateIndex.build(vectors, tracks, self.n_trees, self.search_k, seed)
        return ExactIndex.build(vectors, tracks)

    @staticmethod
    def open(folder: Path, vectors: Floats) -> Index:
        """The saved index, of whatever kind, its arrays mapped into memory, over the `vectors` it was built over."""
        saved = SavedIndex.open(folder, vectors.shape[1])
        if saved.kind == "exact":
            return ExactIndex.open(folder, vectors)
        return ApproximateIndex.open(folder, vectors, saved.search_nodes)
