"""Which deployment runs which source: a large source has its own, the others share one.

Input: an artifact. Output: source names by deployment. A call to another process costs about as much as a search through
MAX_SHARED_NUMBERS numbers, so that smaller sources are called together. A source for which the running service has no
deployment, since an older model had none of that name, runs in the shared one. Independent of Ray.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.artifact import Artifact
from engine.model import source_names

GATEWAY, RELEASE = "gateway", "release"
"""Names of deployments; the ranker's is `engine.model.RANKER`."""
SHARED = "sources"
"""The deployment of all sources without one of their own."""
MAX_SHARED_NUMBERS = 30_000_000
"""Tracks times dimension. Measured: a call costs 1.5 ms of CPU in the two processes, a search 0.05 ns a number."""


def large_sources(artifact: Artifact) -> tuple[str, ...]:
    """The sources that should have a deployment of their own."""
    sources, tracks = artifact.manifest.sources, artifact.manifest.num_tracks
    return tuple(name for name in source_names(artifact) if (sources[name].dimension or 0) * tracks > MAX_SHARED_NUMBERS)


def sources_by_deployment(artifact: Artifact, apart: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The source names of each deployment: one for each source of `apart`, and the shared one for all others."""
    names = source_names(artifact)
    alone = {name: (name,) for name in apart if name in names}
    return {**alone, SHARED: tuple(name for name in names if name not in alone)}
