"""Two processes that fit together reach what one reaches alone, and both hold it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages import parallel
from tests.contracts import QUICK
from tests.side_by_side import run_side_by_side
from tests.stages import worker

WORKERS = 2
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    """What each worker found."""
    folder = tmp_path_factory.mktemp("workers")
    outs = [folder / f"{rank}.npz" for rank in range(WORKERS)]
    arguments = [[str(rank), str(WORKERS), str(folder / "rendezvous"), str(out)] for rank, out in enumerate(outs)]
    run_side_by_side("tests.stages.worker", arguments, {"GLOO_SOCKET_IFNAME": "lo"})
    return [dict(np.load(out)) for out in outs]


@pytest.fixture(scope="module")
def alone() -> dict[str, np.ndarray]:
    return worker.results()


@pytest.mark.parametrize("name", worker.RECIPES)
def test_two_processes_reach_the_loss_of_one(together: list[dict[str, np.ndarray]], alone: dict[str, np.ndarray], name: str) -> None:
    for found in together:
        np.testing.assert_allclose(found[f"{name} losses"], alone[f"{name} losses"], rtol=1e-3)


@pytest.mark.parametrize("name", worker.RECIPES)
def test_two_processes_find_the_vectors_of_one(together: list[dict[str, np.ndarray]], alone: dict[str, np.ndarray], name: str) -> None:
    expected = alone[f"{name} vectors"]
    for found in together:
        np.testing.assert_allclose(found[f"{name} vectors"], expected, atol=2e-2 * np.abs(expected).max())


@pytest.mark.parametrize("name", worker.RECIPES)
def test_all_workers_hold_the_same(together: list[dict[str, np.ndarray]], name: str) -> None:
    first, *others = together
    for other in others:
        for what in ("losses", "vectors", "index", "answers"):
            np.testing.assert_array_equal(other[f"{name} {what}"], first[f"{name} {what}"])


@pytest.mark.parametrize("name", worker.IN_EPOCHS)
def test_workers_that_were_cut_off_end_where_undisturbed_ones_do(together: list[dict[str, np.ndarray]], name: str) -> None:
    for found in together:
        np.testing.assert_array_equal(found[f"{name} resumed"], found[f"{name} vectors"])


def test_all_workers_are_told_which_index_the_first_one_chose(together: list[dict[str, np.ndarray]]) -> None:
    for found in together:
        assert {name: str(*found[f"{name} index"]) for name in worker.RECIPES} == dict.fromkeys(worker.RECIPES, "exact") | {
            "als by annoy": "annoy"
        }


def test_rows_solved_by_each_are_known_to_all_even_if_there_are_fewer_than_workers(together: list[dict[str, np.ndarray]]) -> None:
    for found in together:
        assert found["workers"].tolist() == [WORKERS]
        for rows in worker.FEW_ROWS:
            assert found[f"rows {rows}"].tolist() == [[row, row] for row in range(rows)]


def test_sums_and_unions_are_of_all_workers(together: list[dict[str, np.ndarray]]) -> None:
    for found in together:
        assert found["sum"].tolist() == [2, 1]
        assert found["union"].tolist() == [0, 1, 2, 3, 4]
        assert found["union of few"].tolist() == [7]
        assert found["union of none"].tolist() == []


def test_one_process_needs_no_group() -> None:
    assert (parallel.num_workers(), parallel.worker_rank(), parallel.shard(5)) == (1, 0, (0, 5))
    values = torch.arange(3.0)
    assert parallel.all_reduce_sum(values) is values
    assert parallel.all_gather_rows(values) is values
    assert parallel.all_gather_unique(torch.tensor([5, 2, 5])).tolist() == [2, 5]


@QUICK
@given(rows=st.integers(0, 10_000), workers=st.integers(1, 70))
def test_shares_are_contiguous_cover_all_and_differ_by_one_row(rows: int, workers: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "num_workers", lambda: workers)
        bounds = parallel.shard_bounds(rows)
        shares = []
        for rank in range(workers):
            patch.setattr(parallel, "worker_rank", lambda rank=rank: rank)
            shares.append(parallel.shard(rows))
    assert (bounds[0], bounds[-1], len(bounds)) == (0, rows, workers + 1)
    assert all(stop == start for (_, stop), (start, _) in pairwise(shares))
    sizes = [stop - start for start, stop in shares]
    assert max(sizes) - min(sizes) <= 1
