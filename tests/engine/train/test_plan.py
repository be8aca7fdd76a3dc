"""A training, phase by phase: above all that nothing the ranker learns from has seen what is hidden."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config import Config, SourcesConfig
from engine.pipeline import Pipeline
from engine.train import folds, plan
from engine.train.folds import Fold, learn_from, masked, select, share_of
from engine.train.fusion_weights import fit_fusion
from features.content import ContentRecipe
from features.dataset import Dataset
from features.domain import MAX_ANSWER, NO_TRACK, Queries
from features.interactions import Interactions
from features.pairs import Facts
from features.progress import Progress, silent
from features.split import Split
from stages.protocols import Retriever
from stages.rank.examples import Examples
from stages.retrieve.recipe import Recipe
from stages.training_data import TrainingData
from tests import oracles, worlds
from tests.worlds import SMALL, Training

QUICKEST: Config = SMALL.model_copy(update={"sources": SourcesConfig(als=None, autoencoder=None, content=None)})


@pytest.fixture
def made() -> Training:
    return worlds.training()


@dataclass
class Seen:
    """Everything that anybody has learned from, in order."""

    interactions: list[Interactions] = field(default_factory=list)
    by: list[str] = field(default_factory=list)

    def note(self, who: str, held: Interactions) -> None:
        self.by.append(who)
        self.interactions.append(held)


@dataclass(frozen=True)
class Spy:
    """A recipe that tells what it was given."""

    name: str
    recipe: Recipe
    seen: Seen

    def fit(self, visible: TrainingData, report: Progress = silent) -> Retriever:
        self.seen.note(self.name, visible.interactions)
        return self.recipe.fit(visible, report)

    def open(self, folder: Path, num_tracks: int) -> Retriever:
        return self.recipe.open(folder, num_tracks)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Listens to every recipe, to the facts behind the pair features, and to the content matrix."""
    seen = Seen()
    recipes, facts, content = SourcesConfig.recipes, Facts.of, ContentRecipe.fit

    def spied(self: SourcesConfig) -> dict[str, Recipe]:
        return {name: Spy(name, recipe, seen) for name, recipe in recipes(self).items()}

    def facts_of(held: Interactions, catalog: Any) -> Facts:
        seen.note("facts", held)
        return facts(held, catalog)

    def content_of(self: ContentRecipe, catalog: Any, held: Interactions) -> Any:
        seen.note("content matrix", held)
        return content(self, catalog, held)

    monkeypatch.setattr(SourcesConfig, "recipes", spied)
    monkeypatch.setattr(Facts, "of", facts_of)
    monkeypatch.setattr(ContentRecipe, "fit", content_of)
    return seen


def leaks(held: Interactions, split: Split) -> int:
    """Hidden tracks that can be seen in their own playlist."""
    return sum(int(np.isin(split.qrels.of_query(i), held.tracks_of(p)).sum()) for i, p in enumerate(split.playlists))


def with_other_hidden_tracks(dataset: Dataset, split: Split, queries: np.ndarray) -> Dataset:
    """The same dataset, but what is hidden by `queries` of the split is something else."""
    held = dataset.interactions
    tracks, random = held.tracks.copy(), np.random.default_rng(9)
    for i in queries:
        playlist = int(split.playlists[i])
        row = slice(held.offsets[playlist], held.offsets[playlist + 1])
        hidden = np.isin(tracks[row], split.qrels.of_query(int(i)))
        others = random.permutation(np.setdiff1d(np.arange(held.num_tracks), held.tracks_of(playlist)))
        own = tracks[row].copy()
        own[hidden] = others[: hidden.sum()]
        tracks[row] = own
    return replace(dataset, interactions=replace(held, tracks=tracks))


def masked_pipeline(dataset: Dataset, config: Config) -> Pipeline:
    """That of the first fold."""
    fold = Fold(dataset, config, 0)
    sources = plan.fit_sources(lambda: fold.data, dataset.interactions.num_tracks, config)
    return plan.masked_pipeline(fold, sources, fit_fusion(sources, *fold.for_fusion()))


def answers(pipeline: Pipeline, queries: Queries) -> dict[str, np.ndarray]:
    return {name: result.scores for name, result in pipeline.retrieve(queries).items()}


# --- the leak guard ---


def test_nothing_behind_the_examples_saw_a_hidden_track(made: Training, seen: Seen) -> None:
    split = masked(made.dataset, SMALL)
    pipeline = masked_pipeline(made.dataset, SMALL)
    plan.make_examples(split, learn_from(split, SMALL), pipeline, SMALL)
    assert set(seen.by) == {"facts", "content matrix", *SMALL.sources.recipes()}
    assert len(split.playlists) > 20
    assert leaks(made.dataset.interactions, split) > 100  # the spy would see it
    assert [leaks(held, split) for held in seen.interactions] == [0] * len(seen.interactions)


def test_in_a_whole_training_all_are_fitted_without_then_with_the_hidden_tracks(made: Training, seen: Seen) -> None:
    assert plan.train(made.dataset, QUICKEST).facts
    split = masked(made.dataset, QUICKEST)
    half = len(seen.by) // 2
    assert sorted(seen.by[:half]) == sorted(seen.by[half:])
    assert all(leaks(held, split) == 0 for held in seen.interactions[:half])
    assert all(held is made.dataset.interactions for held in seen.interactions[half:])


def test_each_fold_masks_other_playlists_and_its_sources_see_none_of_their_hidden_tracks(made: Training, seen: Seen) -> None:
    config = QUICKEST.model_copy(update={"examples": QUICKEST.examples.model_copy(update={"folds": 2})})
    assert plan.train(made.dataset, config).facts
    one, other = (masked(made.dataset, config, fold) for fold in range(2))
    assert len(one.playlists) == len(other.playlists) > 10
    assert not set(one.playlists.tolist()) & set(other.playlists.tolist())
    third = len(seen.by) // 3
    assert sorted(seen.by[:third]) == sorted(seen.by[third : 2 * third]) == sorted(seen.by[2 * third :])
    assert all(leaks(held, one) == 0 for held in seen.interactions[:third])
    assert all(leaks(held, other) == 0 for held in seen.interactions[third : 2 * third])


def test_what_is_hidden_makes_no_difference_to_what_is_found(made: Training) -> None:
    """No way in, known or not: with other hidden tracks every source and every pair feature is the same to the bit."""
    split = masked(made.dataset, SMALL)
    other_dataset = with_other_hidden_tracks(made.dataset, split, np.arange(len(split.playlists)))
    other_split = masked(other_dataset, SMALL)
    assert other_split.visible.tracks.tolist() == split.visible.tracks.tolist()
    assert other_split.qrels.relevant.values.tolist() != split.qrels.relevant.values.tolist()
    one, other = masked_pipeline(made.dataset, SMALL), masked_pipeline(other_dataset, SMALL)
    queries = split.queries.part(0, 10)
    for name, scores in answers(one, queries).items():
        np.testing.assert_array_equal(answers(other, queries)[name], scores, err_msg=name)
    candidates = one.second.candidates(one.retrieve(queries), 500)
    features = [pipeline.second.pair_features.compute(queries, candidates) for pipeline in (one, other)]
    np.testing.assert_array_equal(*features)


def test_what_the_check_asks_for_makes_no_difference_to_what_is_learned(made: Training) -> None:
    split = masked(made.dataset, QUICKEST)
    for_check = np.setdiff1d(np.arange(len(split.playlists)), learn_from(split, QUICKEST))
    assert len(for_check) >= 5
    other = with_other_hidden_tracks(made.dataset, split, for_check)
    one_split, other_split = (masked(dataset, QUICKEST) for dataset in (made.dataset, other))
    learned = []
    for dataset, own in ((made.dataset, one_split), (other, other_split)):
        pipeline = masked_pipeline(dataset, QUICKEST)
        learned.append((pipeline.second.fusion, plan.make_examples(own, learn_from(own, QUICKEST), pipeline, QUICKEST)))
    (fusion, examples), (other_fusion, other_examples) = learned
    assert other_fusion == fusion
    np.testing.assert_array_equal(other_examples.features, examples.features)
    np.testing.assert_array_equal(other_examples.labels, examples.labels)


def test_a_challenge_playlist_is_never_masked(made: Training) -> None:
    dataset = worlds.dataset(made.board.held, made.board.visible.catalog, challenge=range(0, 80, 2))
    split = masked(dataset, SMALL)
    assert len(split.playlists) == 20  # half of what is left
    assert (split.playlists % 2 == 1).all()


@pytest.mark.parametrize(("playlists", "share", "expected"), [(7, 0.9, 7), (1_000, 0.25, 20)])
def test_so_many_playlists_are_masked(made: Training, playlists: int, share: float, expected: int) -> None:
    examples = SMALL.examples.model_copy(update={"playlists": playlists, "share": share})
    assert len(masked(made.dataset, SMALL.model_copy(update={"examples": examples})).playlists) == expected


# --- the figures ---


def test_no_model_learns_from_a_query_of_the_check(made: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[np.ndarray] = []
    for module in (folds, plan):
        monkeypatch.setattr(module, "select", lambda split, rows: chosen.append(rows) or select(split, rows))
    figures = plan.train(made.dataset, QUICKEST).figures
    split = masked(made.dataset, QUICKEST)
    *learned, checked = [set(rows.tolist()) for rows in chosen]
    assert len(learned) == 2  # the fusion's weights and the ranker's examples
    assert all(not rows & checked for rows in learned)
    assert set.union(*learned) | checked == set(range(len(split.playlists)))
    assert figures["queries"] == len(checked) >= 5


def test_the_figures_are_those_of_an_honest_evaluation(made: Training) -> None:
    split = masked(made.dataset, QUICKEST)
    trained = plan.train(made.dataset, QUICKEST)
    first = masked_pipeline(made.dataset, QUICKEST)
    for_check = np.setdiff1d(np.arange(len(split.playlists)), learn_from(split, QUICKEST))
    queries, qrels = select(split, for_check.astype(np.int32))
    relevant = [set(qrels.of_query(i).tolist()) for i in range(len(qrels))]
    lists = {
        "ranker": Pipeline(first.sources, replace(first.second, ranker=trained.ranker)).recommend(queries, 500).ranking,
        "fusion": first.recommend(queries, 500).ranking,
        "popularity": first.sources["popularity"].retrieve(queries, SMALL.candidates.per_source),
    }
    for name, ranking in lists.items():
        rows = [row[row != NO_TRACK].tolist() for row in ranking.tracks]
        for measure, oracle in (("ndcg@500", oracles.ndcg), ("recall@500", oracles.recall)):
            expected = np.mean([oracle(row, right, 500) for row, right in zip(rows, relevant, strict=True)])
            assert trained.figures["check"][name][measure] == pytest.approx(expected, rel=1e-6), (name, measure)
    assert set(trained.figures["check"]) == {*first.sources, "fusion", "ranker"}
    assert trained.figures["recall_ceiling"] >= trained.figures["check"]["ranker"]["recall@500"]


def test_without_a_query_to_check_there_are_no_figures(made: Training) -> None:
    config = QUICKEST.model_copy(update={"examples": QUICKEST.examples.model_copy(update={"check_share": 1e-9})})
    assert plan.train(made.dataset, config).figures == {"queries": 0, "left_out": {}, "tried": {}}


def test_a_source_weighs_as_much_as_its_own_list_is_worth(made: Training) -> None:
    split = masked(made.dataset, QUICKEST)
    pipeline = masked_pipeline(made.dataset, QUICKEST)
    queries, qrels = select(split, learn_from(split, QUICKEST))
    worth = {}
    for name, source in pipeline.sources.items():
        rows = [row[row != NO_TRACK].tolist() for row in source.retrieve(queries, MAX_ANSWER).tracks]
        worth[name] = np.mean([oracles.ndcg(row, set(qrels.of_query(i).tolist()), MAX_ANSWER) for i, row in enumerate(rows)])
    best = max(worth.values())
    assert pipeline.second.fusion.weights == pytest.approx({name: value / best for name, value in worth.items()})


# --- the examples ---


def test_examples_are_labelled_by_what_was_hidden(made: Training) -> None:
    split = masked(made.dataset, QUICKEST)
    pipeline = masked_pipeline(made.dataset, QUICKEST)
    chosen = learn_from(split, QUICKEST)
    examples = plan.make_examples(split, chosen, pipeline, QUICKEST)
    assert examples.names == pipeline.second.pair_features.names
    assert examples.features.shape == (examples.groups.sum(), len(examples.names))
    assert 0 < examples.labels.sum() < len(examples.labels)
    queries, qrels = select(split, chosen)
    candidates = pipeline.second.candidates(pipeline.retrieve(queries), MAX_ANSWER)
    hits = sum(int(np.isin(candidates.tracks[start:stop], qrels.of_query(i)).sum()) for i, (start, stop) in enumerate(_slices(candidates)))
    assert examples.labels.sum() == hits


def _slices(candidates: Any) -> Iterator[tuple[int, int]]:
    return zip(candidates.offsets[:-1].tolist(), candidates.offsets[1:].tolist(), strict=True)


@pytest.mark.parametrize("workers", [2, 3])
def test_the_workers_together_make_the_examples_of_one(made: Training, workers: int) -> None:
    split = masked(made.dataset, QUICKEST)
    pipeline = masked_pipeline(made.dataset, QUICKEST)
    chosen = learn_from(split, QUICKEST)
    shares = [share_of(split, chosen, worker, workers) for worker in range(workers)]
    assert sorted(np.concatenate(shares).tolist()) == chosen.tolist()
    alone = plan.make_examples(split, np.concatenate(shares), pipeline, QUICKEST)
    together = Examples.join([plan.make_examples(split, share, pipeline, QUICKEST) for share in shares])
    np.testing.assert_array_equal(together.labels, alone.labels)
    np.testing.assert_array_equal(together.groups, alone.groups)
    np.testing.assert_allclose(together.features, alone.features, rtol=1e-4, atol=1e-4)


# --- the whole ---


def test_the_same_seed_makes_the_same_submission(made: Training) -> None:
    again = worlds.pipeline_of(plan.train(made.board.dataset(), SMALL))
    questions = made.board.questions(30)
    one, other = made.pipeline.recommend(questions, 100), again.recommend(questions, 100)
    np.testing.assert_array_equal(other.ranking.tracks, one.ranking.tracks)
    np.testing.assert_array_equal(other.ranking.scores, one.ranking.scores)


def test_another_seed_hides_other_playlists(made: Training) -> None:
    one, other = (masked(made.dataset, SMALL.model_copy(update={"seed": seed})).playlists.tolist() for seed in (3, 4))
    assert one != other


def test_phases_are_reported_each_until_it_is_done(made: Training) -> None:
    reports: dict[str, list[float]] = {}
    plan.train(made.dataset, QUICKEST, report=lambda phase, done, figures: reports.setdefault(phase, []).append(done))
    assert list(reports)[-2:] == ["ranker", "check"]
    assert {"masked 1 neighbours", "examples 1", "neighbours"} <= set(reports)
    for phase, shares in reports.items():
        assert shares == sorted(shares), phase
        assert shares[-1] == 1.0, phase


def test_the_dataset_is_not_modified(made: Training) -> None:
    fresh = worlds.checkerboard(num_playlists=80, num_held=120, num_cold=4).dataset().interactions
    for name in ("tracks", "plays", "offsets"):
        np.testing.assert_array_equal(getattr(made.dataset.interactions, name), getattr(fresh, name))
