"""Which deployment holds which source: its own where it searches much, else one that is shared.

Input: an artifact. Output: source names by deployment. A call to another process costs about as much as a search through
SHARED_NUMBERS numbers, so that sources which search less are asked together. A source that the running service has no
deployment for, since an older model had none of that name, lives in the shared one. Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.artifact import Artifact
from engine.model import source_names

GATEWAY, RELEASE = "gateway", "release"
"""Names of deployments."""
SHARED = "sources"
"""The deployment of all sources that have none of their own."""
SHARED_NUMBERS = 30_000_000
"""Tracks times dimension. Measured: a call costs 1.5 ms of CPU in the two processes, a search 0.05 ns a number."""


def heavy(artifact: Artifact) -> tuple[str, ...]:
    """The sources that deserve a deployment of their own."""
    sources, tracks = artifact.manifest.sources, artifact.manifest.num_tracks
    return tuple(name for name in source_names(artifact) if (sources[name].dimension or 0) * tracks > SHARED_NUMBERS)


def placed(artifact: Artifact, apart: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The source names of each deployment: of those `apart` one each, all others in the shared one."""
    names = source_names(artifact)
    alone = {name: (name,) for name in apart if name in names}
    return {**alone, SHARED: tuple(name for name in names if name not in alone)}
