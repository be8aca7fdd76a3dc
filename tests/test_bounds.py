"""The compiled loops stay within their arrays: their tests run once more with every index checked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT

pytestmark = pytest.mark.slow
KERNELS = (
    "tests/features/test_pairs.py",
    "tests/stages/rank/test_fusion.py",
    "tests/stages/rank/test_trees.py",
    "tests/stages/retrieve/index/test_exact.py",
    "tests/stages/retrieve/test_sparse_sums.py",
    "tests/stages/retrieve/test_topk.py",
    "tests/stages/retrieve/test_union.py",
)
WILD = """
import numpy as np, scipy.sparse as sp
from stages.retrieve.sparse_sums import room_for, summed
matrix = sp.csr_matrix(np.eye(3, dtype=np.float32))
summed(matrix, np.array([7], np.int32), np.ones(1, np.float32), room_for(matrix))
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose loops check their bounds; what is compiled so must not serve anybody else."""
    return {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")), "PYTHONPATH": str(ROOT)}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False)


def test_an_index_outside_an_array_is_then_an_error(checked: dict[str, str]) -> None:
    found = run(checked, "-c", WILD)
    assert "IndexError" in found.stderr


def test_no_loop_leaves_its_arrays(checked: dict[str, str]) -> None:
    assert all(Path(ROOT, test).is_file() for test in KERNELS)
    found = run(checked, "-m", "pytest", "-q", "-p", "no:cacheprovider", *KERNELS)
    assert found.returncode == 0, found.stdout[-3000:]
