"""The whole program in one process: what it recommends, and what it never does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.config import CandidatesConfig
from engine.pipeline import BATCH, Answer, Pipeline, answer, batches, spaces
from features.domain import NO_TRACK, Queries, Query
from stages.rank.fusion import Fusion
from tests import worlds
from tests.worlds import Training


@pytest.fixture
def made() -> Training:
    return worlds.training()


def asked(made: Training, count: int = BATCH + 5) -> Queries:
    """More than one batch, of every kind."""
    random = np.random.default_rng(2)
    held = made.board.held
    kinds = [
        lambda i: Query(held.tracks_of(i), held.titles[i]),
        lambda i: Query(held.tracks_of(i)[:1]),
        lambda i: worlds.query(title=held.titles[i]),
        lambda i: Query(held.tracks_of(i)[:5], "", random.permutation(made.board.num_tracks)[:40].astype(np.int32)),
        lambda i: worlds.query(),
        lambda i: worlds.query(made.board.num_tracks - 1 - i % 4),
    ]
    return Queries.of(kinds[i % len(kinds)](i) for i in range(count))


def same_for_the_eye(one: Answer, other: Answer) -> None:
    """Rounding may differ where more is multiplied at once; what people see may not."""
    np.testing.assert_allclose(one.ranking.scores, other.ranking.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(one.ranking.tracks, other.ranking.tracks)


def test_the_checkerboard_is_continued_by_both_stages(made: Training) -> None:
    questions = made.board.questions(20)
    assert made.board.precision_at_1(made.pipeline.recommend(questions, 1).ranking.tracks[:, 0]) == 1.0
    seeds_alone = Queries.of(Query(questions.seeds_of(i)) for i in range(20))
    assert made.board.precision_at_1(made.pipeline.recommend(seeds_alone, 1).ranking.tracks[:, 0]) == 1.0
    titles_alone = Queries.of(worlds.query(title=title) for title in questions.titles)
    assert made.board.precision_at_1(made.pipeline.recommend(titles_alone, 1).ranking.tracks[:, 0]) == 1.0


def test_the_checkerboard_is_continued_by_fusion_alone(made: Training) -> None:
    without = Pipeline(made.pipeline.sources, replace(made.pipeline.second, ranker=None))
    assert made.board.precision_at_1(without.recommend(made.board.questions(20), 1).ranking.tracks[:, 0]) == 1.0


@pytest.mark.parametrize("k", [1, 10, 500])
def test_no_seed_no_excluded_track_and_no_repeat(made: Training, k: int) -> None:
    queries = asked(made)
    found = made.pipeline.recommend(queries, k).ranking
    assert found.tracks.shape == found.scores.shape == (len(queries), k)
    for i, row in enumerate(found.tracks):
        proposed = row[row != NO_TRACK]
        assert len(proposed)
        assert not np.isin(proposed, queries.excluded(i)).any()
        assert len(set(proposed.tolist())) == len(proposed)


def test_the_best_come_first_and_padding_last(made: Training) -> None:
    found = made.pipeline.recommend(asked(made), 500).ranking
    assert (found.scores[:, :-1] >= found.scores[:, 1:]).all()
    tied = (found.scores[:, :-1] == found.scores[:, 1:]) & (found.tracks[:, 1:] != NO_TRACK)
    assert (found.tracks[:, :-1] < found.tracks[:, 1:])[tied].all()
    np.testing.assert_array_equal(found.tracks == NO_TRACK, found.scores == -np.inf)
    assert (found.tracks[:, -1] == NO_TRACK).all()  # there are not so many tracks


def test_batches_do_not_change_answers(made: Training) -> None:
    queries = asked(made)
    together = made.pipeline.recommend(queries, 10)
    one_by_one = Answer.join([made.pipeline.recommend(queries.part(i, i + 1), 10) for i in range(len(queries))])
    same_for_the_eye(one_by_one, together)


def test_no_query_no_answer(made: Training) -> None:
    found = made.pipeline.recommend(worlds.queries(), 7)
    assert found.ranking.tracks.shape == found.ranking.scores.shape == (0, 7)


def test_queries_come_in_batches_of_bounded_size(made: Training) -> None:
    queries = asked(made, 2 * BATCH + 1)
    parts = list(batches(queries))
    assert [len(part) for part in parts] == [BATCH, BATCH, 1]
    np.testing.assert_array_equal(np.concatenate([part.seeds.values for part in parts]), queries.seeds.values)
    assert sum((part.titles for part in parts), ()) == queries.titles


def test_the_answer_says_who_proposed_each_track_at_which_rank(made: Training) -> None:
    queries = asked(made, 6)
    retrieved = made.pipeline.retrieve(queries)
    found = made.pipeline.second.rank(queries, retrieved, 10)
    assert tuple(found.ranks) == tuple(made.pipeline.sources)
    for i, row in enumerate(found.ranking.tracks):
        for place, track in enumerate(row):
            for source, ranks in found.ranks.items():
                proposed = np.flatnonzero(retrieved[source].tracks[i] == track) + 1 if track != NO_TRACK else np.empty(0, int)
                assert ranks[i, place] == (proposed[0] if len(proposed) else 0)


@pytest.mark.parametrize("silent", ["als", "autoencoder", "content", "neighbours", "title", "artist"])
def test_a_source_that_is_missing_costs_quality_and_nothing_else(made: Training, silent: str) -> None:
    questions = made.board.questions(8)
    retrieved = {name: result for name, result in made.pipeline.retrieve(questions).items() if name != silent}
    found = made.pipeline.second.rank(questions, retrieved, 5)
    assert silent not in found.ranks
    assert np.isfinite(found.ranking.scores).all()
    assert made.board.precision_at_1(found.ranking.tracks[:, 0]) >= 0.75


def test_popularity_alone_is_enough_for_an_answer(made: Training) -> None:
    queries = asked(made, 6)
    retrieved = {"popularity": made.pipeline.sources["popularity"].retrieve(queries, 50)}
    found = made.pipeline.second.rank(queries, retrieved, 5).ranking
    assert (found.tracks != NO_TRACK).all()
    assert np.isfinite(found.scores).all()


def test_no_more_candidates_are_ranked_than_the_budget_allows(made: Training) -> None:
    queries = asked(made, 6)
    retrieved = made.pipeline.retrieve(queries)
    second = replace(made.pipeline.second, budget=CandidatesConfig(per_source=50, least=7, per_answer=2))
    assert second.candidates(retrieved, 1).counts().max() == 7
    assert second.candidates(retrieved, 10).counts().max() == 20
    assert second.candidates(retrieved, 500).counts().max() > 50


def test_the_cut_keeps_what_fusion_puts_first(made: Training) -> None:
    queries = made.board.questions(5)
    retrieved = made.pipeline.retrieve(queries)
    by_fusion = replace(made.pipeline.second, ranker=None)
    narrow = replace(by_fusion, budget=CandidatesConfig(per_source=50, least=5, per_answer=1))
    wide = replace(by_fusion, budget=CandidatesConfig(per_source=50, least=1_000, per_answer=1))
    same_for_the_eye(narrow.rank(queries, retrieved, 5), wide.rank(queries, retrieved, 5))


def test_without_a_ranker_the_order_is_that_of_the_fusion(made: Training) -> None:
    queries = made.board.questions(3)
    second = replace(made.pipeline.second, ranker=None, fusion=Fusion(dict.fromkeys(made.pipeline.sources, 0.0) | {"popularity": 1.0}))
    found = second.rank(queries, made.pipeline.retrieve(queries), 10).ranking.tracks
    np.testing.assert_array_equal(found, made.pipeline.sources["popularity"].retrieve(queries, 10).tracks)


def test_of_equal_scores_the_lower_track_goes_first() -> None:
    candidates = worlds.candidates([2, 5, 9, 1], [0, 3, 3, 4], {"als": [3, 1, 2, 1]})
    found = answer(candidates, np.array([1, 2, 2, 0], np.float32), 4)
    assert found.ranking.tracks.tolist() == [[5, 9, 2, -1], [-1] * 4, [1, -1, -1, -1]]
    assert found.ranks["als"].tolist() == [[1, 2, 3, 0], [0] * 4, [1, 0, 0, 0]]


def test_the_columns_are_those_of_the_sources_that_there_are(made: Training) -> None:
    assert set(spaces(made.pipeline.sources)) == {"als", "related", "autoencoder", "content"}
    assert made.pipeline.second.pair_features.names == made.trained.ranker.names
