from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from features.domain import SegueError
from stages.retrieve.playlists.voting import Voters
from stages.retrieve.sparse import keep_largest, open_sparse, save_sparse, unit_rows
from tests import oracles, worlds
from tests.contracts import QUICK

CELLS = st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.0, 0.5, 1.0, 2.0]), min_size=5, max_size=5), min_size=1, max_size=5)


@QUICK
@given(cells=CELLS, n=st.integers(1, 6))
def test_the_largest_positive_entries_of_each_row_are_kept(cells: list[list[float]], n: int) -> None:
    kept = keep_largest(sp.csr_matrix(np.array(cells, np.float32)), n).toarray()
    for row, found in zip(cells, kept, strict=True):
        expected = dict(oracles.best_first(((i, value) for i, value in enumerate(row) if value > 0), n))
        assert {i: value for i, value in enumerate(found.tolist()) if value} == expected


@QUICK
@given(cells=CELLS)
def test_rows_have_length_1_or_are_empty(cells: list[list[float]]) -> None:
    scaled = unit_rows(sp.csr_matrix(np.array(cells, np.float32)))
    lengths = np.sqrt((scaled.toarray() ** 2).sum(axis=1))
    np.testing.assert_allclose(lengths, np.any(cells, axis=1), rtol=1e-5)
    assert scaled.dtype == np.float32


def test_a_vote_is_the_similarity_to_a_power() -> None:
    holds = sp.csr_matrix(np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1]], np.float32))
    voters = Voters(holds, sp.csr_matrix(np.eye(3, dtype=np.float32)), np.ones(3, np.float32), neighbours=2, sharpness=2.0)
    keys, counts = np.array([0, 1], np.int32), np.array([3, 4], np.float32)  # similarities of 0.6 and 0.8
    found = voters.elect([(keys, counts)], worlds.queries(worlds.query()), 3)
    assert found.tracks.tolist() == [[1, 2, 0]]
    np.testing.assert_allclose(found.scores, [[1.0, 0.64, 0.36]], rtol=1e-6)
    assert counts.tolist() == [3, 4]


@QUICK
@given(cells=CELLS)
def test_a_sparse_matrix_is_opened_as_it_was_saved(tmp_path: Path, cells: list[list[float]]) -> None:
    matrix = sp.csr_matrix(np.abs(np.array(cells, np.float32)))
    save_sparse(tmp_path, "cells", matrix)
    opened = open_sparse(tmp_path, "cells", (None, 5))
    assert opened.shape == matrix.shape
    np.testing.assert_array_equal(opened.toarray(), matrix.toarray())
    assert not opened.data.flags.writeable


def test_a_sparse_matrix_of_other_columns_or_of_parts_of_two_is_refused(tmp_path: Path) -> None:
    save_sparse(tmp_path, "cells", sp.csr_matrix(np.eye(3, dtype=np.float32)))
    for shape in ((None, 4), (4, 3), (2, 3)):
        with pytest.raises(SegueError, match=rf"cells\.shape\.npy: expected float32 \({shape[0] or 'any'}, {shape[1]}\), found .*\(3, 3\)"):
            open_sparse(tmp_path, "cells", shape)
    for part, values in (("data", np.ones(2, np.float32)), ("indices", np.ones(4, np.int32)), ("indptr", np.arange(5, dtype=np.int64))):
        whole = (tmp_path / f"cells.{part}.npy").read_bytes()
        np.save(tmp_path / f"cells.{part}.npy", values)
        with pytest.raises(SegueError, match=rf"cells\.{part}\.npy: expected .*, found "):
            open_sparse(tmp_path, "cells", (None, 3))
        (tmp_path / f"cells.{part}.npy").write_bytes(whole)
