from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.domain import Candidates, Qrels
from stages.rank.examples import Examples, sample
from tests import worlds
from tests.contracts import QUICK

TRACKS = st.lists(st.integers(0, 15), unique=True, max_size=12).map(sorted)
ASKED = st.lists(st.tuples(TRACKS, TRACKS), min_size=1, max_size=6)


def proposed(rows: list[list[int]]) -> Candidates:
    return worlds.candidates([track for row in rows for track in row], [0, *accumulate(map(len, rows))])


def qrels(rows: list[list[int]]) -> Qrels:
    return Qrels.of([np.array(row, np.int32) for row in rows])


@QUICK
@given(asked=ASKED, misses=st.integers(1, 12))
def test_all_hits_are_kept_and_a_share_of_the_misses(asked: list[tuple[list[int], list[int]]], misses: int) -> None:
    candidates, hidden = proposed([row for row, _ in asked]), [set(row) for _, row in asked]
    rows, labels, groups = sample(candidates, qrels([row for _, row in asked]), misses, [(3, i) for i in range(len(asked))])
    with_hits = [i for i, (row, _) in enumerate(asked) if set(row) & hidden[i]]
    assert len(groups) == len(with_hits)
    assert (groups.sum(), (groups > 0).all()) == (len(rows), True)
    for i, part, said in zip(with_hits, np.split(rows, np.cumsum(groups)[:-1]), np.split(labels, np.cumsum(groups)[:-1]), strict=False):
        tracks = candidates.tracks[part].tolist()
        assert (candidates.offsets[i] <= part).all()
        assert (part < candidates.offsets[i + 1]).all()
        assert tracks == sorted(set(tracks))
        assert said.tolist() == [int(track in hidden[i]) for track in tracks]
        assert {track for track in asked[i][0] if track in hidden[i]} <= set(tracks)
        assert (said == 0).sum() == min(misses, sum(track not in hidden[i] for track in asked[i][0]))


@QUICK
@given(asked=ASKED, misses=st.integers(1, 12))
def test_who_else_is_in_the_batch_makes_no_difference(asked: list[tuple[list[int], list[int]]], misses: int) -> None:
    candidates = proposed([row for row, _ in asked])
    rows, labels, _ = sample(candidates, qrels([row for _, row in asked]), misses, [(3, i) for i in range(len(asked))])
    alone_rows, alone_labels = [], []
    for i, (row, hidden) in enumerate(asked):
        own, said, _ = sample(proposed([row]), qrels([hidden]), misses, [(3, i)])
        alone_rows += (own + candidates.offsets[i]).tolist()
        alone_labels += said.tolist()
    assert (rows.tolist(), labels.tolist()) == (alone_rows, alone_labels)


def test_another_seed_keeps_other_misses() -> None:
    candidates, hidden = proposed([list(range(200))]), qrels([[7]])
    one, again, other = (sample(candidates, hidden, 20, [(seed, 5)])[0].tolist() for seed in (1, 1, 2))
    assert one == again != other


def test_a_hidden_track_that_nobody_proposed_is_no_example() -> None:
    rows, labels, groups = sample(proposed([[1, 2]]), qrels([[2, 9]]), 5, [(0,)])
    assert (rows.tolist(), labels.tolist(), groups.tolist()) == ([0, 1], [0, 1], [2])


def test_no_hit_no_example() -> None:
    rows, labels, groups = sample(proposed([[1, 2], []]), qrels([[9], [1]]), 5, [(0,), (1,)])
    assert (len(rows), len(labels), len(groups)) == (0, 0, 0)
    assert (labels.dtype, groups.dtype) == (np.int32, np.int32)


def test_saved_and_opened_joined_and_empty_they_are_the_same(tmp_path: Path) -> None:
    one = Examples(np.array([[1, np.nan]], np.float32), np.array([1], np.int32), np.array([1], np.int32), ("a", "b"))
    joined = Examples.join([Examples.none(("a", "b")), one, one])
    joined.save(tmp_path / "examples.npz")
    opened = Examples.open(tmp_path / "examples.npz")
    np.testing.assert_array_equal(opened.features, [[1, np.nan], [1, np.nan]])
    assert (opened.labels.tolist(), opened.groups.tolist(), opened.names) == ([1, 1], [1, 1], ("a", "b"))
    assert (opened.features.dtype, opened.labels.dtype, opened.groups.dtype) == (np.float32, np.int32, np.int32)
