"""Approximate search with Annoy's random hyperplane trees.

Input: track vectors (num_tracks, dim). Output: most of the best n tracks of each query vector, scored exactly.
Annoy is weak on inner products of vectors with unequal lengths, so the vectors are first lifted onto a sphere: one more
coordinate sqrt(L^2 - |y|^2), L the longest length, makes the largest inner product the nearest angle (Bachrach et al.
2014, "Speeding up the Xbox recommender system"). An Annoy file stores neither dimension nor metric, and Annoy follows whatever
stands in it: `annoy_file` looks at every node before it is opened, with the dimension of the arrays beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import numpy as np
from annoy import AnnoyIndex

from features.domain import Floats, Ints, Queries, Retrieved, SegueError
from features.npy import save_array
from features.reading import reading
from stages.retrieve import topk
from stages.retrieve.index.annoy_file import require_forest
from stages.retrieve.index.protocol import Kind, SavedIndex, asks, open_tracks

FILE = "index.ann"
LONE_NS, FOUND_NS, NODE_NS, NUMBER_NS = 100_000, 500, 70.0, 0.2
"""Nanoseconds a query, a track found, a node inspected, and a number of its vector: fitted, see `selection`."""


@dataclass(frozen=True, repr=False)
class ApproximateIndex:
    """Trees over the lifted vectors; the plain ones score what the trees find."""

    kind: ClassVar[Kind] = "annoy"
    forest: AnnoyIndex
    vectors: Floats
    """(num_tracks, dim) the source's own."""
    tracks: Ints
    """(m,) the track of each item of the forest."""
    search_k: int
    """Nodes inspected per search; -1 is trees x n."""

    @classmethod
    def build(cls, vectors: Floats, tracks: Ints, n_trees: int, search_k: int, seed: int) -> Self:
        """Over the rows `tracks` (m,) of `vectors` (num_tracks, dim)."""
        rows = vectors[tracks]
        if not np.isfinite(rows).all():
            raise SegueError("index: expected finite vectors, found NaN or infinity. Annoy would accept them and answer nonsense")
        forest = AnnoyIndex(rows.shape[1] + 1, "angular")
        forest.set_seed(seed)
        for row, vector in enumerate(lifted(rows)):
            forest.add_item(row, vector)
        forest.build(n_trees, n_jobs=1)  # one job: the same seed gives the same trees
        return cls(forest, vectors, tracks, search_k)

    def __repr__(self) -> str:
        trees = self.forest.get_n_trees()
        return f"<ApproximateIndex: {len(self.tracks):,} tracks x {self.vectors.shape[1]} dimensions, {trees} trees>"

    def search(self, query_vectors: Floats, queries: Queries, n: int) -> Retrieved:
        result = topk.empty(len(queries), n)
        for i in np.flatnonzero(asks(query_vectors)).tolist():
            excluded = queries.excluded(i)
            lifted = np.append(query_vectors[i], np.float32(0))
            found = self.forest.get_nns_by_vector(lifted, min(n + len(excluded), len(self.tracks)), self.search_k)
            tracks = self.tracks[np.array(found, np.int64)]
            topk.put(result, i, tracks, self.vectors[tracks] @ query_vectors[i], excluded)
        return Retrieved(result.tracks, result.scores, query_vectors)

    def nodes(self, n: int) -> int:
        """Nodes inspected to find `n` tracks."""
        return n * self.forest.get_n_trees() if self.search_k < 0 else self.search_k

    def save(self, folder: Path) -> dict[str, Any]:
        save_array(folder / "index_tracks.npy", self.tracks)
        with TemporaryDirectory(dir=folder) as scratch:  # Annoy's save maps the file it writes: write aside, then move
            self.forest.save(str(Path(scratch) / FILE))
            Path(scratch, FILE).rename(folder / FILE)
        SavedIndex(kind=self.kind, dim=self.vectors.shape[1], search_nodes=self.search_k).save(folder)
        return {"index": "annoy", "trees": self.forest.get_n_trees(), "search_nodes": self.search_k}

    @classmethod
    def open(cls, folder: Path, vectors: Floats, search_k: int) -> Self:
        """Over the `vectors` (num_tracks, dim) it was built over."""
        tracks = open_tracks(folder, len(vectors))
        forest = AnnoyIndex(vectors.shape[1] + 1, "angular")
        require_forest(folder / FILE, vectors.shape[1] + 1, len(tracks))
        with reading(folder / FILE, f"an Annoy file of {len(tracks):,} vectors"):
            forest.load(str(folder / FILE))
        return cls(forest, vectors, tracks, search_k)


def search_ns(nodes: int, n: int, dim: int) -> float:
    """About how long one thread takes for a lone query that inspects so many nodes for `n` tracks."""
    return LONE_NS + n * FOUND_NS + nodes * (NODE_NS + dim * NUMBER_NS)


def lifted(vectors: Floats) -> Floats:
    """(m, dim + 1) all of the longest vector's length."""
    squared = np.einsum("md,md->m", vectors, vectors)
    return np.concatenate([vectors, np.sqrt(np.maximum(squared.max(initial=0) - squared, 0))[:, None]], axis=1)
