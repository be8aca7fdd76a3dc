from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.domain import NO_TRACK, Candidates, Retrieved
from stages.retrieve.union import cut, each, join, unite
from tests import oracles
from tests.contracts import QUICK

PROPOSED = st.lists(st.integers(0, 8) | st.integers(2**31 - 3, 2**31 - 1), unique=True, max_size=6)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, list[list[int]]]:
    """Per source, per query the tracks it proposes."""
    count = draw(st.integers(0, 4))
    return {name: [draw(PROPOSED) for _ in range(count)] for name in ("als", "title", "artist")[: draw(st.integers(1, 3))]}


def retrieved(rows: list[list[int]], width: int, query_vectors: bool = False) -> Retrieved:
    """The track at rank r has the score -r."""
    tracks = np.full((len(rows), width), NO_TRACK, np.int32)
    scores = np.full((len(rows), width), -np.inf, np.float32)
    for i, row in enumerate(rows):
        tracks[i, : len(row)] = row
        scores[i, : len(row)] = -np.arange(1, len(row) + 1)
    return Retrieved(tracks, scores, np.ones((len(rows), 2), np.float32) if query_vectors else None)


def united(proposed: dict[str, list[list[int]]]) -> Candidates:
    """Each source in an array of a width of its own, only the first with vectors."""
    return unite({name: retrieved(rows, 6 + i, query_vectors=i == 0) for i, (name, rows) in enumerate(proposed.items())})


@QUICK
@given(proposed=answers())
def test_each_proposed_track_is_there_once_with_all_who_proposed_it(proposed: dict[str, list[list[int]]]) -> None:
    candidates = united(proposed)
    count = len(next(iter(proposed.values())))
    assert (len(candidates), candidates.sources) == (count, tuple(proposed))
    assert candidates.offsets[-1] == len(candidates.tracks)
    for i in range(count):
        rows = slice(candidates.offsets[i], candidates.offsets[i + 1])
        assert candidates.tracks[rows].tolist() == sorted({track for rows in proposed.values() for track in rows[i]})
        for source, name in enumerate(proposed):
            expected = {track: rank for rank, track in enumerate(proposed[name][i], start=1)}
            ranks, scores = candidates.ranks[source, rows].tolist(), candidates.scores[source, rows].tolist()
            assert ranks == [expected.get(track, 0) for track in candidates.tracks[rows].tolist()]
            assert [None if np.isnan(score) else -score for score in scores] == [rank or None for rank in ranks]
    assert candidates.tracks.dtype == np.int32
    assert candidates.query_of().tolist() == [i for i in range(count) for _ in range(int(candidates.counts()[i]))]


@QUICK
@given(proposed=answers())
def test_vectors_are_passed_on_for_sources_that_have_them(proposed: dict[str, list[list[int]]]) -> None:
    first, *_ = proposed
    assert {name: vectors.shape for name, vectors in united(proposed).query_vectors.items()} == {first: (len(proposed[first]), 2)}


@QUICK
@given(proposed=answers(), most=st.integers(1, 8), data=st.data())
def test_the_cut_keeps_the_best_and_of_equal_ones_the_lower_track(
    proposed: dict[str, list[list[int]]], most: int, data: st.DataObject
) -> None:
    whole = united(proposed)
    count = len(whole.tracks)
    scores = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)), np.float32)
    kept = cut(whole, scores, most)
    for i in range(len(whole)):
        before, after = (slice(one.offsets[i], one.offsets[i + 1]) for one in (whole, kept))
        scored = list(zip(whole.tracks[before].tolist(), scores[before].tolist(), strict=True))
        assert kept.tracks[after].tolist() == sorted(track for track, _ in oracles.best_first(scored, most))
        place = {track: at for at, track in enumerate(whole.tracks[before].tolist(), start=int(whole.offsets[i]))}
        of_kept = [place[track] for track in kept.tracks[after].tolist()]
        np.testing.assert_array_equal(kept.ranks[:, after], whole.ranks[:, of_kept])
        np.testing.assert_array_equal(kept.scores[:, after], whole.scores[:, of_kept])
    assert kept.query_vectors.keys() == whole.query_vectors.keys()


def test_a_union_that_is_short_enough_is_not_cut() -> None:
    whole = united({"als": [[3, 1], [2]]})
    assert cut(whole, np.zeros(3, np.float32), 2) is whole


@QUICK
@given(proposed=answers(), most=st.integers(1, 8))
def test_queries_one_at_a_time_make_the_same_union(proposed: dict[str, list[list[int]]], most: int) -> None:
    whole = united(proposed)
    rows = {name: retrieved(of_source, 6 + i, query_vectors=i == 0) for i, (name, of_source) in enumerate(proposed.items())}
    if not len(whole):
        assert list(each(rows)) == []
        return
    joined = join([unite(of_query) for of_query in each(rows)])
    assert joined.sources == whole.sources
    for name in ("tracks", "offsets", "ranks", "scores"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
        assert getattr(joined, name).dtype == getattr(whole, name).dtype
    for source, vectors in whole.query_vectors.items():
        np.testing.assert_array_equal(joined.query_vectors[source], vectors)
