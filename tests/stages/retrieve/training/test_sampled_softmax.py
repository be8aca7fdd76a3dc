from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.retrieve.training.sampled_softmax import Sampler, SparseTables, places
from tests import worlds
from tests.contracts import QUICK

NUM_TRACKS = 6
HELD = st.lists(st.lists(st.integers(0, NUM_TRACKS - 1), unique=True, max_size=4), min_size=1, max_size=5)


@QUICK
@given(rows=HELD, batch_size=st.integers(1, 6), negatives=st.integers(1, 8), least=st.integers(1, 2), without=st.integers(0, 1))
def test_the_chances_are_those_of_all_batches_counted(
    rows: list[list[int]], batch_size: int, negatives: int, least: int, without: int
) -> None:
    teach = [row for row in rows if len(row) >= least]
    found = np.exp(Sampler(worlds.interactions(rows, NUM_TRACKS), batch_size, negatives, least).log_chances(without))
    drawn = min(negatives / NUM_TRACKS, 1)
    for track in range(NUM_TRACKS):
        holders = [track in row for row in teach]
        if without and all(holders):
            continue  # no playlist is without it
        if without:
            holders.remove(False)
        batches = list(combinations(holders, max(min(batch_size, len(teach)) - without, 0)))
        left_out = np.mean([not any(batch) for batch in batches]) * (1 - drawn)
        assert found[track] == pytest.approx(max(1 - left_out, 1e-9), abs=1e-5)


@QUICK
@given(rows=HELD, batch_size=st.integers(1, 3), seed=st.integers(0, 99))
def test_every_playlist_that_teaches_is_in_one_batch(rows: list[list[int]], batch_size: int, seed: int) -> None:
    sampler = Sampler(worlds.interactions(rows, NUM_TRACKS), batch_size, 1, least=2)
    batches = [batch.tolist() for batch in sampler.batches(np.random.default_rng(seed))]
    assert all(batch == sorted(batch) and len(batch) <= batch_size for batch in batches)
    assert sorted(playlist for batch in batches for playlist in batch) == [i for i, row in enumerate(rows) if len(row) >= 2]


def test_a_step_looks_at_what_is_held_and_at_as_many_more_as_are_drawn() -> None:
    held = worlds.interactions([[7, 3], [500]], 1_000)
    sample = Sampler(held, 2, 40, 1).draw([held.tracks_of(0), held.tracks_of(1)], np.random.default_rng(0)).tolist()
    assert {3, 7, 500} <= set(sample)
    assert 40 <= len(sample) <= 43
    assert sample == sorted(set(sample))


def test_places_are_where_the_tracks_stand() -> None:
    sample = torch.tensor([2, 5, 9])
    assert places(sample, [np.array([9, 2], np.int32), np.array([], np.int32), np.array([5], np.int32)]).tolist() == [2, 0, 1]
    assert places(sample, []).tolist() == []


def test_rows_that_a_step_does_not_look_at_stay_as_they_are() -> None:
    learned = SparseTables({"tracks": torch.ones(5, 2)}, [], learning_rate=0.1)
    ids = {"tracks": torch.tensor([1, 3])}
    for _ in range(3):
        rows = learned.rows(ids)
        learned.update(rows["tracks"][0].sum(), rows, ids)
    assert learned.tables["tracks"].tolist() == [[1, 1], [pytest.approx(0.4, abs=1e-4)] * 2, [1, 1], [1, 1], [1, 1]]
    learned.slow_down(0.0)
    rows = learned.rows(ids)
    learned.update(rows["tracks"].sum(), rows, ids)
    assert learned.tables["tracks"][3].tolist() == [1, 1]
