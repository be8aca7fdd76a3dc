from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from features.domain import Floats, SegueError
from stages.rank.examples import Examples
from stages.rank.lambdamart import FILE, LambdaMart, LambdaMartRecipe
from tests.contracts import Planted, RankerContract
from tests.stages.rank import worker
from tests.steps import CutOffError, Remembered

SMALL = LambdaMartRecipe(num_iterations=12, num_leaves=5, min_data_in_leaf=10, learning_rate=0.2, checkpoint_every=5)


def examples(planted: Planted) -> Examples:
    return Examples(planted.features, planted.labels, planted.candidates.counts().astype(np.int32), planted.names)


def booster_of(ranker: LambdaMart) -> lightgbm.Booster:
    return lightgbm.Booster(model_str=ranker.text)


@pytest.fixture(scope="module")
def ranker() -> LambdaMart:
    return SMALL.fit(examples(Planted.of(60)), seed=1, threads=1)


class TestLambdaMart(RankerContract):
    def trained(self, planted: Planted) -> LambdaMart:
        return SMALL.fit(examples(planted), seed=1, threads=1)

    def score(self, ranker: LambdaMart, planted: Planted) -> Floats:
        return ranker.score(planted.features)

    def kept(self, ranker: LambdaMart, folder: Path) -> LambdaMart:
        ranker.save(folder)
        return LambdaMart.open(folder, ranker.names)


@pytest.mark.parametrize("names", [("good.rank", "noise"), ("noise", "good.rank", "bad.rank"), ("good.rank", "noise", "bad.rank", "more")])
def test_other_features_are_refused_with_both_lists(ranker: LambdaMart, tmp_path: Path, names: tuple[str, ...]) -> None:
    ranker.save(tmp_path)
    with pytest.raises(SegueError, match=r"expected the features .*, found good\.rank, noise, bad\.rank") as caught:
        LambdaMart.open(tmp_path, names)
    assert f"expected the features {', '.join(names)}, found" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a model", b"tree\nversion=v4\n", b"\xff\xfe\x00"])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(SegueError, match=r"ranker\.txt: expected a LightGBM model in text form, found "):
        LambdaMart.open(tmp_path, ("a",))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_model_cut_short_is_refused_before_it_kills_the_process(ranker: LambdaMart, tmp_path: Path, share: float) -> None:
    ranker.save(tmp_path)
    text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(text[: int(share * len(text))])
    with pytest.raises(SegueError, match=r"ranker\.txt: expected a LightGBM model in text form, found \d+ characters that do not end in"):
        LambdaMart.open(tmp_path, ranker.names)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match=r"ranker\.txt: expected a LightGBM model in text form, found .*No such file"):
        LambdaMart.open(tmp_path, ("a",))


@pytest.mark.parametrize("shape", [(4, 2), (4, 4)])
def test_a_matrix_of_other_columns_is_refused(ranker: LambdaMart, shape: tuple[int, int]) -> None:
    with pytest.raises((SegueError, lightgbm.basic.LightGBMError), match="number of features"):
        ranker.score(np.zeros(shape, np.float32))


def test_what_is_unknown_has_a_score_too(ranker: LambdaMart) -> None:
    assert np.isfinite(ranker.score(np.full((3, 3), np.nan, np.float32))).all()


def test_examples_without_a_hit_are_refused() -> None:
    planted = Planted.of(5)
    planted.labels[:] = 0
    with pytest.raises(SegueError, match="expected examples with at least one hit, found 200 pairs and no hit"):
        SMALL.fit(examples(planted), seed=1, threads=1)
    with pytest.raises(SegueError, match="found 0 pairs and no hit"):
        SMALL.fit(Examples.none(planted.names), seed=1, threads=1)


def test_pairs_are_compared_within_a_query_alone() -> None:
    """A feature that tells good queries from bad ones, but not tracks of one query, must not be learned from."""
    planted = Planted.of(60)
    good_queries = np.repeat(np.arange(60) % 2, 40)
    planted.features[:, 1] = good_queries
    planted.labels[good_queries == 0] = 0
    planted.labels[::40] = 1  # else these queries would have nothing to learn from
    importance = SMALL.fit(examples(planted), seed=1, threads=1).importance()
    assert importance["noise"] < importance["good.rank"] / 2


def test_importance_is_a_share_of_the_gain_largest_first(ranker: LambdaMart) -> None:
    importance = ranker.importance()
    assert next(iter(importance)) == "good.rank"
    assert list(importance.values()) == sorted(importance.values(), reverse=True)
    assert sum(importance.values()) == pytest.approx(1)


def test_contributions_add_up_to_the_score(ranker: LambdaMart) -> None:
    asked = Planted.of(5, seed=1).features
    explained = ranker.contributions(asked)
    assert explained.shape == asked.shape
    rest = ranker.score(asked) - explained.sum(axis=1)
    np.testing.assert_allclose(rest, rest[0], atol=1e-4)  # what all rows share


def test_threads_make_no_difference(ranker: LambdaMart) -> None:
    asked = Planted.of(5, seed=1).features
    again = SMALL.fit(examples(Planted.of(60)), seed=1, threads=2)
    np.testing.assert_allclose(again.score(asked), ranker.score(asked), rtol=1e-6)


def test_it_reports_every_tree() -> None:
    reports: list[tuple[float, float]] = []
    SMALL.fit(examples(Planted.of(10)), seed=1, threads=1, report=lambda phase, done, figures: reports.append((done, figures["trees"])))
    assert reports == [(tree / 12, float(tree)) for tree in range(1, 13)]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_fit_that_was_cut_off_grows_the_trees_of_an_undisturbed_one(ranker: LambdaMart, after: int) -> None:
    steps, heard = Remembered(cut_off_after=after), []
    with pytest.raises(CutOffError):
        SMALL.fit(examples(Planted.of(60)), seed=1, threads=1, steps=steps)
    assert steps.kept is not None
    assert steps.kept.done == min(5 * after, 12)

    def report(phase: str, done: float, figures: Mapping[str, float]) -> None:
        heard.append(figures["trees"])

    assert SMALL.fit(examples(Planted.of(60)), seed=1, threads=1, report=report, steps=steps).text == ranker.text
    assert heard == list(range(5 * after + 1, 13))


def test_what_is_kept_is_the_beginning_of_the_model(ranker: LambdaMart) -> None:
    steps = Remembered(cut_off_after=1)
    with pytest.raises(CutOffError):
        SMALL.fit(examples(Planted.of(60)), seed=1, threads=1, steps=steps)
    assert steps.kept is not None
    kept = LambdaMart(steps.kept.shared["text"].tobytes().decode())
    assert booster_of(kept).num_trees() == 5
    asked = Planted.of(5, seed=1).features
    first_five = booster_of(ranker).predict(asked, num_iteration=5)
    np.testing.assert_array_equal(booster_of(kept).predict(asked), first_five)


def test_trees_that_grew_some_at_a_time_are_one_model(ranker: LambdaMart) -> None:
    asked = Planted.of(5, seed=1).features
    assert booster_of(ranker).num_trees() == 12
    assert booster_of(ranker).feature_importance("split").sum() == ranker.text.count("split_gain=") * (SMALL.num_leaves - 1)
    predicted = booster_of(ranker).predict(asked)
    np.testing.assert_array_equal(ranker.score(asked), predicted.astype(np.float32))
    explained = booster_of(ranker).predict(asked, pred_contrib=True)
    np.testing.assert_allclose(explained.sum(axis=1), predicted, rtol=1e-9)


def test_each_time_rows_and_features_are_drawn_anew() -> None:
    """The first tree of a seed is not the first tree of what comes after it."""
    random = np.random.default_rng(0)
    features, names = random.normal(size=(2_000, 6)).astype(np.float32), tuple("abcdef")
    noise = Examples(features, random.integers(0, 2, 2_000).astype(np.int32), np.full(100, 20, np.int32), names)
    recipe = SMALL.model_copy(update={"learning_rate": 1e-9, "checkpoint_every": 1, "num_iterations": 4})
    trees = recipe.fit(noise, seed=1, threads=1).text.partition("\nend of trees")[0].split("\nTree=")[1:]
    assert len({body[body.index("split_feature=") : body.index("left_child=")] for body in trees}) == 4


def test_where_there_is_nothing_to_split_on_trees_are_leaves() -> None:
    alike = Planted.of(60)
    alike.features[:] = 0
    ranker = SMALL.fit(examples(alike), seed=1, threads=1)
    assert not ranker.score(alike.features).any()


@pytest.mark.slow
def test_two_processes_grow_the_same_trees_and_go_on_together(tmp_path: Path) -> None:
    def texts(*cut_off_after: int) -> list[str]:
        folder = tmp_path / str(len(cut_off_after))
        folder.mkdir()
        for steps in cut_off_after:
            worker.run_together(folder, steps)
        found = [(folder / f"{rank}.txt").read_text() for rank in range(worker.WORKERS)]
        return [text.partition("\nparameters:")[0] for text in found]  # which say the ports

    undisturbed, resumed = texts(0), texts(2, 0)
    assert len({*undisturbed, *resumed}) == 1
    assert undisturbed[0].count("\nTree=") == 12
