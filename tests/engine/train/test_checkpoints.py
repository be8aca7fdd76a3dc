"""What a fit finds when it is started again, by what was kept and what became of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.train.checkpoints import OWN, STEP, Checkpoints
from engine.train.storage import Storage, storage_at
from stages import parallel
from stages.resume import Checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Storage:
    return storage_at(tmp_path, "run")


def reached(done: int) -> Checkpoint:
    return Checkpoint(
        done, {"rows": np.full((2, 3), done, np.float32).T}, {"turn": np.eye(2) * done, "text": np.frombuffer(b"ab", np.uint8)}
    )


def keep(run: Storage, *steps: int, rank: int = 0) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "worker_rank", lambda: rank)
        for done in steps:
            Checkpoints(run, "final/als").keep(reached(done))


def test_the_last_step_comes_back_as_it_was_kept_in_arrays_that_may_be_changed(run: Storage) -> None:
    steps = Checkpoints(run, "final/als")
    assert steps.last() is None
    keep(run, 1, 2, 3)
    found = steps.last()
    assert found is not None
    assert found.done == 3
    for expected, array in ((reached(3).own["rows"], found.own["rows"]), (reached(3).shared["turn"], found.shared["turn"])):
        np.testing.assert_array_equal(array, expected)
        array += 1
    assert Checkpoints(run, "final/slim").last() is None


@pytest.mark.parametrize("damage", [b"", b"half of it"])
def test_a_step_that_was_cut_short_is_none(run: Storage, damage: bytes) -> None:
    keep(run, 1, 2)
    place = run.path("final/als steps/0/0")
    (place / OWN).write_bytes((place / OWN).read_bytes()[:-4] + damage[:0])
    found = Checkpoints(run, "final/als").last()
    assert found is not None
    assert found.done == 1
    (run.path("final/als steps/0/1") / STEP).write_bytes(damage)
    assert Checkpoints(run, "final/als").last() is None


def test_workers_go_on_from_the_last_step_that_all_of_them_kept(run: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one was killed in the third step."""
    keep(run, 1, 2, 3, rank=0)
    keep(run, 1, 2, rank=1)
    kept = {0: [2, 3], 1: [2, 1]}
    for rank in kept:
        with monkeypatch.context() as patch:
            patch.setattr(parallel, "worker_rank", lambda rank=rank: rank)
            patch.setattr(parallel, "all_gather", lambda own: own.new_tensor([*kept[0], *kept[1]]))
            found = Checkpoints(run, "final/als").last()
        assert found is not None
        assert found.done == 2
        assert found.shared["turn"][0, 0] == 2


def test_a_finished_phase_keeps_no_steps(run: Storage) -> None:
    keep(run, 1, 2)
    Checkpoints(run, "final/als").drop()
    assert Checkpoints(run, "final/als").last() is None
