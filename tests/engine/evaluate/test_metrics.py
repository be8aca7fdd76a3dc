"""Every metric equals its slow twin, on rankings with ties of rank, empty lists, short lists and unknown relevant tracks."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evaluate import metrics
from features.domain import NO_TRACK, Candidates, Qrels, Ranking, SegueError
from tests import oracles, worlds

NUM_TRACKS = 40
TRACKS = st.integers(0, NUM_TRACKS - 1)
KNOWN_OR_NOT = st.integers(-8, NUM_TRACKS - 1).filter(lambda track: track != NO_TRACK)
QUERIES = st.lists(st.tuples(st.lists(TRACKS, unique=True, max_size=30), st.sets(KNOWN_OR_NOT, max_size=30)), max_size=8)
CUTS = st.integers(1, 35)


def ranking_of(lists: list[list[int]]) -> Ranking:
    width = max(map(len, lists), default=0)
    rows = [row + [NO_TRACK] * (width - len(row)) for row in lists]
    tracks = np.array(rows, np.int32).reshape(len(lists), width)
    return Ranking(tracks, np.zeros(tracks.shape, np.float32))


def qrels_of(relevant: list[set[int]]) -> Qrels:
    return Qrels.of([np.array(sorted(tracks), np.int32) for tracks in relevant])


def candidates_of(lists: list[list[int]]) -> Candidates:
    return worlds.candidates([track for row in lists for track in sorted(row)], [0, *accumulate(map(len, lists))])


@settings(deadline=None)
@given(QUERIES, CUTS)
def test_every_metric_equals_its_oracle(queries: list[tuple[list[int], set[int]]], k: int) -> None:
    judged = metrics.judge(ranking_of([ranked for ranked, _ in queries]), qrels_of([relevant for _, relevant in queries]))
    expected = {
        "recall": [oracles.recall(*query, k) for query in queries],
        "ndcg": [oracles.ndcg(*query, k) for query in queries],
        "r_precision": [oracles.r_precision(*query) for query in queries],
        "clicks": [oracles.clicks(*query) for query in queries],
        "average_precision": [oracles.average_precision(*query, k) for query in queries],
    }
    found = {
        "recall": metrics.recall(judged, k),
        "ndcg": metrics.ndcg(judged, k),
        "r_precision": metrics.r_precision(judged),
        "clicks": metrics.clicks(judged),
        "average_precision": metrics.average_precision(judged, k),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)


@settings(deadline=None)
@given(QUERIES, CUTS)
def test_list_metrics_equal_their_oracles(queries: list[tuple[list[int], set[int]]], k: int) -> None:
    lists = [ranked for ranked, _ in queries]
    ranking = ranking_of(lists)
    assert metrics.coverage(ranking, NUM_TRACKS, k) == oracles.coverage(lists, NUM_TRACKS, k)
    assert metrics.personalization(ranking, k) == pytest.approx(oracles.personalization(lists, k), abs=1e-12, nan_ok=True)


@settings(deadline=None)
@given(QUERIES)
def test_recall_ceiling_is_the_recall_of_the_whole_union(queries: list[tuple[list[int], set[int]]]) -> None:
    ceiling = metrics.recall_ceiling(candidates_of([ranked for ranked, _ in queries]), qrels_of([relevant for _, relevant in queries]))
    np.testing.assert_allclose(ceiling, [oracles.recall(*query, NUM_TRACKS) for query in queries], rtol=1e-12)


@pytest.mark.parametrize("first_hit", [1, 10, 11, 500, 501])
def test_long_answers_are_cut_at_500(first_hit: int) -> None:
    ranked, relevant = list(range(600)), {first_hit - 1, *range(1000, 1000 + 700)}  # more relevant tracks than ranks
    found = metrics.per_query(ranking_of([ranked]), qrels_of([relevant]))
    expected = {
        "r_precision": oracles.r_precision(ranked, relevant),
        "ndcg@500": oracles.ndcg(ranked, relevant, 500),
        "clicks": oracles.clicks(ranked, relevant),
        "recall@500": oracles.recall(ranked, relevant, 500),
        "map@10": oracles.average_precision(ranked, relevant, 10),
    }
    assert {name: values.tolist() for name, values in found.items()} == {name: [pytest.approx(value)] for name, value in expected.items()}


def test_a_perfect_answer_has_perfect_figures() -> None:
    found = metrics.per_query(ranking_of([[3, 1, 2]]), qrels_of([{1, 2, 3}]))
    assert {name: float(values[0]) for name, values in found.items()} == {
        "r_precision": 1,
        "ndcg@500": pytest.approx(1),
        "clicks": 0,
        "recall@500": 1,
        "map@10": 1,
    }


def test_unknown_relevant_tracks_lower_recall_and_padding_never_hits_them() -> None:
    judged = metrics.judge(ranking_of([[4], [4, 5]]), qrels_of([{4, -2, -3, -4}, {-2}]))
    assert metrics.recall(judged, 500).tolist() == [0.25, 0]
    assert not metrics.judge(Ranking(np.full((1, 3), NO_TRACK, np.int32), np.zeros((1, 3), np.float32)), qrels_of([{NO_TRACK}])).hits.any()


def test_lists_all_alike_are_not_personal_and_disjoint_ones_are() -> None:
    assert metrics.personalization(ranking_of([[1, 2], [2, 1], [1, 2]]), 2) == pytest.approx(0)
    assert metrics.personalization(ranking_of([[1, 2], [3, 4], []]), 2) == pytest.approx(1)
    assert math.isnan(metrics.personalization(ranking_of([[1], []]), 1))


def test_coverage_of_an_empty_vocabulary_is_undefined() -> None:
    assert math.isnan(metrics.coverage(ranking_of([[]]), 0, 10))


def test_the_mean_counts_what_it_leaves_out() -> None:
    mean = metrics.mean_with_interval(np.array([0.0, np.nan, 1.0, 0.5]), seed=1)
    assert (mean.value, mean.queries, mean.without_relevant) == (0.5, 3, 1)
    assert 0 <= mean.low <= mean.value <= mean.high <= 1


def test_the_mean_of_nothing_is_nan() -> None:
    mean = metrics.mean_with_interval(np.array([np.nan, np.nan]), seed=1)
    assert math.isnan(mean.value)
    assert (mean.queries, mean.without_relevant) == (0, 2)


def test_the_interval_is_the_seed_s_and_covers_the_truth_about_19_times_in_20() -> None:
    rng = np.random.default_rng(7)
    intervals = [metrics.mean_with_interval(rng.normal(3, 1, 60), seed=i, resamples=300) for i in range(200)]
    assert 0.88 <= np.mean([one.low <= 3 <= one.high for one in intervals]) <= 0.99
    values = rng.normal(size=50)
    assert metrics.mean_with_interval(values, seed=5) == metrics.mean_with_interval(values, seed=5)
    assert metrics.mean_with_interval(values, seed=5) != metrics.mean_with_interval(values, seed=6)


def test_qrels_of_another_challenge_are_refused() -> None:
    with pytest.raises(SegueError, match=r"expected 2 queries, found 1"):
        metrics.judge(ranking_of([[1], [2]]), qrels_of([{1}]))
    with pytest.raises(SegueError, match=r"expected 1 queries, found 2"):
        metrics.recall_ceiling(candidates_of([[1]]), qrels_of([{1}, {2}]))


def test_a_repeated_track_is_refused() -> None:
    with pytest.raises(SegueError, match=r"expected every track once per query, found track 7 twice for query 1"):
        metrics.judge(ranking_of([[1, 2, 3], [7, 4, 7]]), qrels_of([{1}, {7}]))
