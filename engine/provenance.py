"""What a figure was measured with: the commit, the machine and the libraries. Every raw result file carries it.

Knows nothing of what is measured.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("annoy", "lightgbm", "numpy", "polars", "ray", "safetensors", "scipy", "torch")


def provenance() -> dict[str, Any]:
    """For a result's `provenance` key."""
    return {
        "measured": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "git_commit": git_commit(),
        "machine": {"cores": os.cpu_count(), "memory_gib": _memory_gib(), "processor": platform.machine()},
        "libraries": libraries(),
    }


def _memory_gib() -> float:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def libraries() -> dict[str, str]:
    """Version by name of those that are installed, without importing one of them."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES if _installed(name)}}


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def git_commit() -> str:
    """The checkout's commit, with `-dirty` where files were changed; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip() or "unknown"
