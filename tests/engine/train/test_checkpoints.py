"""What a fit finds when it is started again, by what was kept and what became of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from engine.train.checkpoints import OWN, SHARED, STEP, Checkpoints
from engine.train.storage import Storage, storage_at
from stages import parallel
from stages.resume import Checkpoint
from tests.damage import DAMAGES

Damage = Callable[[Path, Random], None]


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


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("file", [OWN, SHARED, STEP])
def test_a_damaged_step_is_said_and_the_one_before_it_goes_on(run: Storage, damage: Damage, file: str) -> None:
    keep(run, 1, 2)
    said: list[str] = []
    steps = Checkpoints(run, "final/als", said.append)
    for place, expected in ((0, 1), (1, None)):
        damage(Path(run.address(f"final/als steps/0/{place}")) / file, Random(0))
        found = steps.last()
        assert (found and found.done) == expected
        assert len(said) == place + 1
        assert re.search(rf"final/als steps/0/{place}: {file}: expected .*, found .*It is removed", said[-1])
        run = storage_at(Path(run.address("")).parent, "run")  # as another process, which has compared nothing yet
        steps = Checkpoints(run, "final/als", said.append)


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
