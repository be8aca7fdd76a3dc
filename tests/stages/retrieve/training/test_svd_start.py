from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from stages.retrieve.training import svd_start
from stages.retrieve.training.svd_start import starting_rows
from tests import worlds
from tests.contracts import QUICK, board


@QUICK
@given(rows=st.integers(6, 15), columns=st.integers(6, 15), dim=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_directions_are_those_of_the_largest_singular_values(rows: int, columns: int, dim: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    left, right = (np.linalg.qr(random.normal(size=(size, 6)))[0] for size in (rows, columns))
    values = np.array([9.0] * dim + [1.0] * (6 - dim))  # well apart, so that few steps are enough
    found = svd_start.leading_directions(csr_matrix(((left * values) @ right.T).astype(np.float32)), dim, random)
    np.testing.assert_allclose(found @ found.T, right[:, :dim] @ right[:, :dim].T, atol=2e-2)


def test_tracks_that_occur_together_start_near_each_other() -> None:
    rows = starting_rows(board().held, 4, 0.1, seed=0).numpy()[: board().num_held]
    lengths = np.linalg.norm(rows, axis=1)
    cosines = (rows @ rows.T) / np.outer(lengths, lengths)
    assert cosines[::2, ::2].mean() > cosines[::2, 1::2].mean() + 0.3


def test_rows_are_of_the_wanted_size_and_zero_for_tracks_that_nobody_holds() -> None:
    rows = starting_rows(board().held, 4, 0.1, seed=0).numpy()
    assert np.sqrt(np.mean(rows**2)) == pytest.approx(0.1, rel=0.02)
    assert not rows[board().num_held :].any()
    assert rows.dtype == np.float32


def test_there_may_be_more_dimensions_than_tracks_or_no_playlist_at_all() -> None:
    assert starting_rows(worlds.interactions([[0, 1], [1]], 3), 8, 0.1, seed=0).isfinite().all()
    assert not starting_rows(worlds.interactions([[], []], 3), 2, 0.1, seed=0).any()
