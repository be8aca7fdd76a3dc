from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.domain import Floats, Ints, Queries, SegueError
from stages.retrieve.index import selection
from stages.retrieve.index.approximate import ApproximateIndex
from stages.retrieve.index.exact import ExactIndex
from stages.retrieve.index.protocol import Index
from stages.retrieve.index.recipe import IndexRecipe
from stages.retrieve.index.selection import Chosen, sample_queries, with_chosen_index
from stages.training_data import TrainingData
from tests import worlds
from tests.contracts import IndexContract, same


@dataclass(frozen=True)
class Recipe:
    index: IndexRecipe


@dataclass(frozen=True)
class Source:
    """As small as a source with an index can be: a query is the mean of its seeds."""

    vectors: Floats
    index: Index

    @classmethod
    def of(cls, recipe: IndexRecipe, vectors: Floats, tracks: Ints) -> Source:
        return cls(vectors, recipe.build(vectors, tracks, seed=5))

    def query_vectors(self, queries: Queries) -> Floats:
        means = [self.vectors[queries.seeds_of(i)].mean(axis=0) for i in range(len(queries))]
        return np.stack(means) if means else np.zeros((0, self.vectors.shape[1]), np.float32)


def chosen(recipe: IndexRecipe, vectors: Floats, tracks: Ints | None = None, **changes: Any) -> Index:
    """The index of a source whose playlists hold four `tracks` each."""
    tracks = np.arange(len(vectors), dtype=np.int32) if tracks is None else tracks
    random = np.random.default_rng(1)
    playlists = [random.choice(tracks, min(4, len(tracks)), replace=False).tolist() for _ in range(40)]
    visible = TrainingData(**{**vars(worlds.visible(worlds.interactions(playlists, len(vectors)))), **changes})
    return with_chosen_index(Source.of(recipe, vectors, tracks), recipe, visible).index


def unit(rows: int = 4_000, dim: int = 8) -> Floats:
    vectors = np.random.default_rng(2).normal(size=(rows, dim)).astype(np.float32)
    found: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


FEW = IndexRecipe(at=5, nodes_per_track=(1, 200))


@pytest.fixture
def cheap_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a small world Annoy is cheaper only if its nodes cost next to nothing."""
    monkeypatch.setattr(selection, "search_ns", lambda nodes, n, dim: 10.0 * nodes)


def figures(index: Index) -> dict[str, Any]:
    assert isinstance(index, Chosen)
    return dict(index.figures)


def without_clock(values: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if name not in ("latency_ms", "index_tried")}
    return kept | {"index_tried": [without_clock(trial) for trial in values.get("index_tried", ())]}


class TestChosen(IndexContract):
    recipe = IndexRecipe()

    def built(self, vectors: Floats, tracks: Ints | None = None) -> Index:
        return chosen(self.recipe, vectors, tracks)


@pytest.mark.usefixtures("cheap_trees")
def test_annoy_is_chosen_where_it_finds_enough_with_less_work() -> None:
    said = figures(chosen(FEW, unit()))
    assert (said["index"], said["search_nodes"], said["trees"]) == ("annoy", 1_000, FEW.n_trees)
    assert 0.95 <= said["recall"] <= 1
    assert [(trial["index"], trial.get("search_nodes")) for trial in said["index_tried"]] == [
        ("exact", None),
        ("annoy", 5),
        ("annoy", 1_000),
    ]
    exact, few, enough = said["index_tried"]
    assert few["recall"] < 0.95 <= enough["recall"]
    assert enough["estimated_ms"] < exact["estimated_ms"]
    assert min(trial["latency_ms"] for trial in said["index_tried"]) > 0
    assert said["index_reason"] == "least work with a recall of 0.95"


@pytest.mark.usefixtures("cheap_trees")
def test_exact_is_chosen_where_annoy_does_not_find_enough() -> None:
    said = figures(chosen(IndexRecipe(at=5, nodes_per_track=(1, 2)), unit()))
    assert (said["index"], said["recall"], len(said["index_tried"])) == ("exact", 1.0, 3)
    assert said["index_reason"] == "no Annoy that is cheaper by work reaches a recall of 0.95"


def test_no_tree_is_planted_where_annoy_cannot_be_cheaper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "approximate_twin", None)
    said = figures(chosen(IndexRecipe(), unit()))
    assert (said["index"], said["recall"]) == ("exact", 1.0)
    assert [trial["index"] for trial in said["index_tried"]] == ["exact"]
    assert said["index_reason"].startswith("Annoy not tried: by work it takes ")


@pytest.mark.usefixtures("cheap_trees")
def test_the_choice_and_its_answers_are_the_same_each_time_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    one = chosen(FEW, unit())
    ticks: Iterator[int] = iter(range(10**9))
    monkeypatch.setattr(selection.time, "perf_counter", lambda: float(next(ticks)))
    other = chosen(FEW, unit())
    assert figures(other)["latency_ms"] == 1_000
    assert without_clock(figures(one)) == without_clock(figures(other))
    asked, wanted = worlds.queries(worlds.query(3)), unit()[:1]
    same(one.search(wanted, asked, 50), other.search(wanted, asked, 50))


@pytest.mark.usefixtures("cheap_trees")
@pytest.mark.parametrize("recipe", [FEW, IndexRecipe()])
def test_what_was_chosen_is_opened_without_being_told(tmp_path: Path, recipe: IndexRecipe) -> None:
    index, asked = chosen(recipe, unit()), worlds.queries(worlds.query(3))
    said = index.save(tmp_path)
    assert said == figures(index)
    opened = IndexRecipe().open(tmp_path, unit())
    assert isinstance(opened, ApproximateIndex if recipe is FEW else ExactIndex)
    same(opened.search(unit()[:1], asked, 50), index.search(unit()[:1], asked, 50))


def test_what_does_not_serve_stays_exact_and_is_not_measured() -> None:
    assert isinstance(chosen(FEW, unit(), serves=False), ExactIndex)


def test_what_nobody_can_ask_is_not_measured() -> None:
    assert isinstance(chosen(FEW, unit(), interactions=worlds.interactions([[], []], 4_000)), ExactIndex)
    assert isinstance(chosen(FEW, np.zeros((50, 8), np.float32)), ExactIndex)


@pytest.mark.parametrize("kind", ["exact", "annoy"])
def test_a_kind_that_was_asked_for_is_taken_and_measured(kind: str) -> None:
    said = figures(chosen(IndexRecipe(kind=kind, at=5, n_trees=3, search_k=40), unit()))  # type: ignore[arg-type]
    assert (said["index"], said["index_reason"]) == (kind, "asked for")
    assert (said["recall"] == 1) == (kind == "exact")
    assert len(said["index_tried"]) == (1 if kind == "exact" else 2)


def test_playlists_ask_with_their_first_half() -> None:
    held = worlds.interactions([[3, 1, 2], [], [5], [4, 0, 1, 2]], 6)
    asked = sample_queries(held, seed=0)
    assert [asked.seeds_of(i).tolist() for i in range(len(asked))] == [[3, 1], [5], [4, 0]]
    one, other = sample_queries(held, seed=1, count=2), sample_queries(held, seed=1, count=2)
    assert len(one) == 2
    np.testing.assert_array_equal(one.seeds.values, other.seeds.values)


@pytest.mark.parametrize(
    "bad", [{"recall": 0}, {"recall": 1.1}, {"at": 0}, {"nodes_per_track": ()}, {"nodes_per_track": (0,)}, {"nodes": 3}]
)
def test_a_recipe_that_makes_no_sense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(SegueError):
        IndexRecipe(**bad)
