"""The nouns: batches of one or many queries, answers by name, and what each says of itself."""

from __future__ import annotations

import numpy as np
import pytest

from features.domain import NO_TRACK, Candidates, Qrels, Queries, Query, Ranking, Retrieved, SegueError
from features.vocabulary import Vocabulary

VOCABULARY = Vocabulary([f"spotify:track:{letter}" for letter in "abcdef"])


def query(*seeds: int, title: str = "", exclude: tuple[int, ...] = ()) -> Query:
    return Query(np.array(seeds, np.int32), title, np.array(exclude, np.int32))


def retrieved(tracks: list[list[int]]) -> Retrieved:
    return Retrieved(np.array(tracks, np.int32), -np.arange(np.size(tracks), dtype=np.float32).reshape(np.shape(tracks)))


# --- a batch ---


def test_a_batch_is_its_queries() -> None:
    asked = [query(1, 2, title="x"), query(), query(3, exclude=(4, 5))]
    batch = Queries.of(asked)
    assert len(batch) == 3
    for i, one in enumerate(asked):
        assert batch[i].seeds.tolist() == batch.seeds_of(i).tolist() == one.seeds.tolist()
        assert (batch[i].title, batch[i].exclude.tolist()) == (one.title, one.exclude.tolist())
        assert batch.excluded(i).tolist() == [*one.seeds.tolist(), *one.exclude.tolist()]
    assert batch.seed_counts().tolist() == [2, 0, 1]


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (1, 2), (2, 9), (3, 5)])
def test_a_part_of_a_batch_is_a_batch(start: int, stop: int) -> None:
    asked = [query(1, 2, title="x"), query(), query(3, exclude=(4, 5))]
    part, expected = Queries.of(asked).part(start, stop), Queries.of(asked[start:stop])
    assert part.titles == expected.titles
    for one, other in ((part.seeds, expected.seeds), (part.exclude, expected.exclude)):
        assert (one.values.tolist(), one.offsets.tolist()) == (other.values.tolist(), other.offsets.tolist())


def test_one_query_an_iterable_and_a_batch_are_batches() -> None:
    one = Queries.of(query(1, 2))
    assert (len(one), one.seeds_of(0).tolist()) == (1, [1, 2])
    assert len(Queries.of(query(i) for i in range(3))) == 3
    assert Queries.of(one) is one
    assert len(Queries.of([])) == 0


@pytest.mark.parametrize(
    ("wrong", "found"),
    [("spotify:track:a", "str"), (["spotify:track:a"], "str"), (7, "int"), (None, "NoneType"), ([query(), None], "NoneType")],
)
def test_what_is_no_query_is_named(wrong: object, found: str) -> None:
    with pytest.raises(SegueError, match=rf"queries: expected Query objects, found {found}\. Make one with `dataset\.query"):
        Queries.of(wrong)  # type: ignore[arg-type]


def test_qrels_are_of_their_queries() -> None:
    qrels = Qrels.of([np.array([1, 2]), np.array([], np.int32), np.array([5])])
    assert [qrels.of_query(i).tolist() for i in range(len(qrels))] == [[1, 2], [], [5]]
    assert [qrels.part(1, 9).of_query(i).tolist() for i in range(2)] == [[], [5]]


# --- by name ---


@pytest.mark.parametrize("noun", [Retrieved, Ranking])
def test_an_answer_to_one_query_is_named_best_first_without_padding(noun: type[Retrieved] | type[Ranking]) -> None:
    answer = noun(np.array([[2, 0, NO_TRACK]], np.int32), np.array([[1.5, 0.25, -np.inf]], np.float32))
    assert answer.named(VOCABULARY) == [("spotify:track:c", 1.5), ("spotify:track:a", 0.25)]


def test_answers_to_several_queries_are_a_list_each() -> None:
    named = retrieved([[1, 2], [NO_TRACK, NO_TRACK], [5, NO_TRACK]]).named(VOCABULARY)
    assert [[track_id for track_id, _ in one] for one in named] == [["spotify:track:b", "spotify:track:c"], [], ["spotify:track:f"]]
    assert retrieved([]).named(VOCABULARY) == []


# --- what they say of themselves ---


@pytest.mark.parametrize(
    ("noun", "said"),
    [
        (query(1, 2, title="road trip", exclude=(3,)), "Query(2 seeds, title 'road trip', 1 excluded)"),
        (Queries.of([query(1, 2), query()]), "Queries(2 queries, 2 seeds)"),
        (retrieved([[1, 2, 3], [3, 4, 5]]), "Retrieved(2 queries, up to 3 tracks each)"),
        (Ranking(np.zeros((1, 4), np.int32), np.zeros((1, 4), np.float32)), "Ranking(1 query, up to 4 tracks each)"),
        (Qrels.of([np.array([1, 2])]), "Qrels(1 query, 2 relevant tracks)"),
        (
            Candidates(
                np.zeros(3, np.int32), np.array([0, 3]), ("als", "title"), np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32), {}
            ),
            "Candidates(1 query, 3 candidates of als, title)",
        ),
    ],
)
def test_each_is_one_short_line(noun: object, said: str) -> None:
    assert repr(noun) == said
