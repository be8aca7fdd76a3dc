"""Selects the index of a source: of those with enough recall, the one with the least work.

Input: a source with its exact index, and what is visible. Output: the same source, its index chosen, with the recall and
the latency of all that were tried. The queries are real playlists, one at a time, as in serving.
Measured latency never decides: two trainings on the same data must give the same model, and latency differs from run
to run. Each kind's work is counted (rows bounded, read and scanned; nodes inspected) and turned into time by constants
that were fitted once (benchmarks/results/retrieval.json); the measured latency is only reported.
With several workers, worker 0 decides. Knows no particular source.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch

from features.domain import NO_TRACK, Floats, Ints, Queries, Query, Retrieved
from features.interactions import Interactions
from stages import parallel
from stages.retrieve.index.approximate import ApproximateIndex, search_ns
from stages.retrieve.index.exact import ExactIndex
from stages.retrieve.index.protocol import Index, Kind, asks
from stages.retrieve.index.recipe import IndexRecipe
from stages.training_data import TrainingData

QUERIES = 64
"""Playlists that ask."""
ROUNDS = 2
"""Each query is timed so often and the fastest counts, for a busy machine only ever makes it slower."""


@dataclass(frozen=True)
class Trial:
    """One way to search, and what it came to on the sampled queries."""

    index: str
    recall: float
    """Share of the exact best `at` tracks, mean over queries."""
    estimated_ms: float
    """By counted work, median over lone queries; this decides."""
    latency_ms: float
    """By the clock, likewise; this is told."""
    n_trees: int = 0
    search_k: int = 0

    def told(self) -> dict[str, Any]:
        # coarsely: a matrix product of other threads may put one more row within reach, and the version hashes this
        rounded = {"recall": round(self.recall, 4), "estimated_ms": round(self.estimated_ms, 2), "latency_ms": round(self.latency_ms, 3)}
        work = {"trees": self.n_trees, "search_nodes": self.search_k} if self.n_trees else {}
        return {"index": self.index, **work, **rounded}


@dataclass(frozen=True, repr=False)
class Chosen:
    """An index with the figures it was chosen by; opened again it is the index alone."""

    index: Index
    figures: Mapping[str, Any]

    def __repr__(self) -> str:
        return repr(self.index)

    @property
    def kind(self) -> Kind:
        return self.index.kind

    def search(self, query_vectors: Floats, queries: Queries, n: int) -> Retrieved:
        return self.index.search(query_vectors, queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        return {**self.index.save(folder), **self.figures}


class _Source(Protocol):
    """A trained source with an index; a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def index(self) -> Index: ...
    def query_vectors(self, queries: Queries) -> Floats: ...


Source = TypeVar("Source", bound=_Source)


def with_chosen_index(source: Source, recipe: IndexRecipe, data: TrainingData) -> Source:
    """The source as the recipe of its index wants it to serve; one that will not serve, or that nobody can ask, is left as it is."""
    if not data.serves:
        return source
    queries = sample_queries(data.interactions, data.seed)
    query_vectors = source.query_vectors(queries)
    asking = np.flatnonzero(asks(query_vectors))
    if not len(asking):
        return source
    bench = _Bench(query_vectors[asking], Queries.of(queries[int(i)] for i in asking), recipe.at)
    index = _told_by_the_first(source.index, recipe, bench, data.seed)
    return replace(source, index=index)


def sample_queries(interactions: Interactions, seed: int, count: int = QUERIES) -> Queries:
    """The first half of `count` playlists, or of all there are: what the index will be asked."""
    held = np.flatnonzero(interactions.lengths())
    chosen = np.sort(np.random.default_rng(seed).permutation(held)[:count])
    tracks = [interactions.tracks_of(playlist) for playlist in chosen]
    return Queries.of(Query(of_playlist[: (len(of_playlist) + 1) // 2]) for of_playlist in tracks)


def _told_by_the_first(built: Index, recipe: IndexRecipe, bench: _Bench, seed: int) -> Index:
    """The first worker measures and chooses; the others hold the same index, without its figures."""
    first = parallel.worker_rank() == 0
    chosen = _choose(built, recipe, bench, seed) if first else None
    nodes = chosen.figures.get("search_nodes", 0) if chosen else 0
    [nodes] = parallel.broadcast(torch.tensor([nodes])).tolist()
    if chosen:
        return chosen
    return approximate_twin(built, recipe, seed, nodes) if isinstance(built, ExactIndex) and nodes else built


def _choose(built: Index, recipe: IndexRecipe, bench: _Bench, seed: int) -> Chosen:
    """The exact index is always measured: it says what there is to find."""
    if isinstance(built, ApproximateIndex):
        exact, annoy = bench.exact(ExactIndex.build(built.vectors, built.tracks)), bench.annoy(built)
        return _chosen(built, annoy, [exact, annoy], "asked for")
    assert isinstance(built, ExactIndex)
    exact = bench.exact(built)
    if recipe.kind == "exact":
        return _chosen(built, exact, [exact], "asked for")
    return _fastest(built, exact, recipe, bench, seed)


def _fastest(built: ExactIndex, exact: Trial, recipe: IndexRecipe, bench: _Bench, seed: int) -> Chosen:
    """More and more nodes, until enough is found or exact search is as cheap; without a chance, without a tree."""
    costs = {each * bench.n: search_ns(each * bench.n, bench.n, built.vectors.shape[1]) / 1e6 for each in recipe.nodes_per_track}
    ladder = sorted(nodes for nodes, estimated_ms in costs.items() if estimated_ms < exact.estimated_ms)
    tried = [exact]
    if not ladder:
        reason = f"Annoy not tried: by work it takes {min(costs.values()):.1f} ms or more, exact {exact.estimated_ms:.1f} ms"
        return _chosen(built, exact, tried, reason)
    forest = approximate_twin(built, recipe, seed, ladder[0])
    for nodes in ladder:
        index = replace(forest, search_k=nodes)
        tried.append(bench.annoy(index))
        if tried[-1].recall >= recipe.recall:
            return _chosen(index, tried[-1], tried, f"least work with a recall of {recipe.recall}")
    return _chosen(built, exact, tried, f"no Annoy that is cheaper by work reaches a recall of {recipe.recall}")


def approximate_twin(exact: ExactIndex, recipe: IndexRecipe, seed: int, nodes: int) -> ApproximateIndex:
    return ApproximateIndex.build(exact.vectors, exact.tracks, recipe.n_trees, nodes, seed)


def _chosen(index: Index, trial: Trial, tried: list[Trial], reason: str) -> Chosen:
    return Chosen(index, {**trial.told(), "index_reason": reason, "index_tried": [one.told() for one in tried]})


class _Bench:
    """The sampled queries, and what the exact index answers them."""

    def __init__(self, query_vectors: Floats, queries: Queries, at: int) -> None:
        self.n = at
        self._alone = [(query_vectors[i : i + 1], queries.part(i, i + 1)) for i in range(len(queries))]
        self._best: list[Ints] = []

    def exact(self, index: ExactIndex) -> Trial:
        self.n = min(self.n, max(len(index.tracks), 1))
        latency_ms, self._best = self._answers(index)
        work = [index.search_ns(vector[0], self.n + len(query.excluded(0))) for vector, query in self._alone]
        return Trial("exact", 1.0, float(np.median(work)) / 1e6, latency_ms)

    def annoy(self, index: ApproximateIndex) -> Trial:
        """After `exact`."""
        latency_ms, found = self._answers(index)
        shares = [len(np.intersect1d(one, best)) / max(len(best), 1) for one, best in zip(found, self._best, strict=True)]
        nodes = index.nodes(self.n)
        estimated_ms = search_ns(nodes, self.n, index.vectors.shape[1]) / 1e6
        return Trial("annoy", float(np.mean(shares)), estimated_ms, latency_ms, index.forest.get_n_trees(), nodes)

    def _answers(self, index: Index) -> tuple[float, list[Ints]]:
        """(median milliseconds of a lone query, the tracks found for each)."""
        found, fastest = [], []
        for query_vectors, query in self._alone:
            seconds = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                [tracks] = index.search(query_vectors, query, self.n).tracks
                seconds.append(time.perf_counter() - start)
            found.append(tracks[tracks != NO_TRACK])
            fastest.append(min(seconds))
        return float(np.median(fastest)) * 1e3, found
