"""Processes of a test that work together: all are started, all must end well, and none stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE_S = 120


def run_side_by_side(module: str, arguments: Sequence[Sequence[str]], environment: Mapping[str, str]) -> None:
    """One process of `module` for each list of arguments, one thread each, with warnings as errors."""
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-m", module, *own],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for own in arguments
    ]
    try:
        said = [process.communicate(timeout=PATIENCE_S)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * len(arguments), said
