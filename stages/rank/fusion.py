"""Weighted rank fusion: the baseline of the ranker, and the result when there is no ranker.

Input: Candidates. Output: for each, sum over the sources that proposed it of weight / (60 + rank)
(reciprocal rank fusion, Cormack, Clarke and Buettcher 2009, with a weight per source). Knows no feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.domain import Candidates, Floats, Ints
from features.jit import compiled

DAMPING = 60.0
"""k of the paper: how little a source's first ranks differ."""


@dataclass(frozen=True)
class Fusion:
    """A weight for each source; a source without one counts 1."""

    weights: Mapping[str, float]

    def score(self, candidates: Candidates) -> Floats:
        total = np.zeros(len(candidates.tracks), np.float32)
        _add(candidates.ranks, np.array([self.weights.get(source, 1.0) for source in candidates.sources], np.float32), total)
        return total


@compiled
def _add(ranks: Ints, weights: Floats, total: Floats) -> None:
    for source in range(len(ranks)):
        for i in range(len(total)):
            if ranks[source, i] > 0:
                total[i] += weights[source] / (DAMPING + ranks[source, i])
