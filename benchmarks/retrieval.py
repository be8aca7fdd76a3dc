"""How fast which index finds how much: exact search and Annoy over the vectors of a dataset.

Input: a dataset, on which ALS (unequal lengths) and content (length 1) are fitted. Output: one JSON with the build time,
the size, the recall against exact search and the milliseconds a query, alone and with 15 others, of every variant and
length of list, and the circumstances. Three ways to give Annoy vectors of unequal lengths are compared: lifted onto a
sphere, as the product does it; in shells of similar length with a sphere each (Yan, Li, Dai, Chen and Cheng 2018,
"Norm-Ranging LSH for Maximum Inner Product Search"); and Annoy's own dot product. One thread, CPU time, so that a busy
machine does not blur the figures.

    OMP_NUM_THREADS=1 python -m benchmarks.retrieval DATASET --out retrieval.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from annoy import AnnoyIndex

from engine.config import Config
from engine.provenance import provenance
from engine.train.folds import training_data
from features.dataset import Dataset
from features.domain import NO_TRACK, Floats, Ints, Queries, Retrieved
from stages.retrieve import topk
from stages.retrieve.als.model import AlsRecipe
from stages.retrieve.content.recipes import ContractiveRecipe
from stages.retrieve.index.approximate import ApproximateIndex, search_ns
from stages.retrieve.index.exact import ExactIndex
from stages.retrieve.index.protocol import Index
from stages.retrieve.index.selection import sample_queries

LENGTHS, BATCHES = (100, 500, 1_000), (1, 16)
NODES = (3_000, 10_000, 30_000, 60_000, 120_000)
TREES, SHELLS = 10, 4
SIZES = (50_000, None)
"""Vectors; None is all of them."""


@dataclass(frozen=True)
class Shells:
    """The longest quarter of the vectors in one index, the next in another: within a shell lengths differ less."""

    shells: tuple[ApproximateIndex, ...]

    @classmethod
    def build(cls, vectors: Floats, tracks: Ints) -> Shells:
        longest_first = tracks[np.argsort(-np.linalg.norm(vectors[tracks], axis=1), kind="stable")]
        return cls(tuple(ApproximateIndex.build(vectors, part, TREES, 1, seed=0) for part in np.array_split(longest_first, SHELLS)))

    def search(self, query_vectors: Floats, queries: Queries, n: int) -> Retrieved:
        result = topk.empty(len(queries), n)
        found = [shell.search(query_vectors, queries, n) for shell in self.shells]
        for i in range(len(queries)):
            tracks, scores = (np.concatenate([getattr(one, name)[i] for one in found]) for name in ("tracks", "scores"))
            topk.put(result, i, tracks[tracks != NO_TRACK], scores[tracks != NO_TRACK], queries.excluded(i))
        return result

    def save(self, folder: Path) -> dict[str, Any]:
        for i, shell in enumerate(self.shells):
            (folder / str(i)).mkdir()
            shell.save(folder / str(i))
        return {}


@dataclass(frozen=True)
class PlainDot:
    """Annoy's own metric for inner products."""

    forest: AnnoyIndex
    vectors: Floats
    tracks: Ints
    search_nodes: int = 1

    @classmethod
    def build(cls, vectors: Floats, tracks: Ints) -> PlainDot:
        forest = AnnoyIndex(vectors.shape[1], "dot")
        forest.set_seed(0)
        for row, vector in enumerate(vectors[tracks]):
            forest.add_item(row, vector)
        forest.build(TREES, n_jobs=1)
        return cls(forest, vectors, tracks)

    def search(self, query_vectors: Floats, queries: Queries, n: int) -> Retrieved:
        result = topk.empty(len(queries), n)
        for i, vector in enumerate(query_vectors):
            excluded = queries.excluded(i)
            tracks = self.tracks[np.array(self.forest.get_nns_by_vector(vector, n + len(excluded), self.search_nodes), np.int64)]
            topk.put(result, i, tracks, self.vectors[tracks] @ vector, excluded)
        return result

    def save(self, folder: Path) -> dict[str, Any]:
        self.forest.save(str(folder / "index.ann"))
        return {}


def with_nodes(index: Any, nodes: int) -> Index:
    """The same trees, searched with so many nodes in all."""
    if isinstance(index, Shells):
        return Shells(tuple(replace(shell, search_nodes=nodes // SHELLS) for shell in index.shells))
    found: Index = replace(index, search_k=nodes)
    return found


VARIANTS: dict[str, Callable[[Floats, Ints], Index]] = {
    "annoy, lifted": lambda vectors, tracks: ApproximateIndex.build(vectors, tracks, TREES, 1, seed=0),
    "annoy, lifted in shells": Shells.build,
    "annoy, dot": PlainDot.build,
}


@dataclass(frozen=True)
class ResolvedQuery:
    """Real queries and their exact answers."""

    query_vectors: Floats
    queries: Queries

    def milliseconds(self, index: Index, n: int, batch: int) -> float:
        """Median over batches of the CPU time a query, the faster of two rounds."""
        found = []
        for start in range(0, len(self.queries) - batch + 1, batch):
            part = self.query_vectors[start : start + batch], self.queries.part(start, start + batch)
            seconds = []
            for _ in range(2):
                began = time.thread_time()
                index.search(*part, n)
                seconds.append(time.thread_time() - began)
            found.append(min(seconds) * 1e3 / batch)
        return float(np.median(found))

    def measured(self, index: Index, exact: ExactIndex, n: int) -> dict[str, Any]:
        wanted, found = (one.search(self.query_vectors, self.queries, n).tracks for one in (exact, index))
        shares = [len(np.intersect1d(one, other)) / n for one, other in zip(wanted, found, strict=True)]
        speed = {f"ms a query of {batch}": round(self.milliseconds(index, n, batch), 3) for batch in BATCHES}
        return {"n": n, "recall": round(float(np.mean(shares)), 4), **speed}


def rows_of(source: Any, held: Ints, asked: ResolvedQuery, most: int | None) -> Iterator[dict[str, Any]]:
    """One row per variant, number of nodes and length of list, over the first `most` of a random order of the tracks."""
    tracks = np.sort(np.random.default_rng(0).permutation(held)[:most]).astype(np.int32)
    vectors, common = source.track_vectors, {"vectors": len(tracks), "dim": source.track_vectors.shape[1]}
    exact, built = timed(lambda: ExactIndex.build(vectors, tracks))
    for n in LENGTHS:
        work = [exact.search_ns(vector, n) / 1e6 for vector in asked.query_vectors]
        yield {**common, "index": "exact", **built, "estimated_ms": round(float(np.median(work)), 3), **asked.measured(exact, exact, n)}
    for name, build in VARIANTS.items():
        index, built = timed(lambda build=build: build(vectors, tracks))  # type: ignore[misc]
        for nodes, n in product(NODES, LENGTHS):
            estimated = {"estimated_ms": round(search_ns(nodes, n, common["dim"]) / 1e6, 3)} if name == "annoy, lifted" else {}
            found = asked.measured(with_nodes(index, nodes), exact, n)
            yield {**common, "index": name, "trees": TREES, "search_nodes": nodes, **built, **estimated, **found}


def timed(build: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """(index, its build time and size on disk)."""
    start = time.process_time()  # Annoy plants its trees in a thread of its own
    index = build()
    seconds = time.process_time() - start
    with TemporaryDirectory() as folder:
        index.save(Path(folder))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return index, {"build_s": round(seconds, 2), "megabytes": round(size / 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, default=Path("retrieval.json"))
    parser.add_argument("--sweeps", type=int, default=4, help="of ALS")
    parser.add_argument("--queries", type=int, default=32)
    chosen = parser.parse_args()
    dataset = Dataset.open(chosen.dataset)
    data = training_data(dataset, dataset.interactions, Config(), serves=False)
    queries = sample_queries(data.interactions, 1, chosen.queries)
    figures = []
    recipes: dict[str, Any] = {"als": AlsRecipe(iterations=chosen.sweeps), "content": ContractiveRecipe(epochs=2)}
    for name, recipe in recipes.items():
        source = recipe.fit(data)
        held = np.flatnonzero(source.track_vectors.any(axis=1) & (data.interactions.track_counts > 0)).astype(np.int32)
        asked = ResolvedQuery(source.query_vectors(queries), queries)
        for most in SIZES:
            for row in rows_of(source, held, asked, most):
                figures.append({"source": name, **row})
                print(json.dumps(figures[-1]), flush=True)
    threads = {name: os.environ.get(name, "unset") for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    result = {"circumstances": provenance(), "threads": threads, "queries": len(queries), "sweeps": chosen.sweeps, "figures": figures}
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
