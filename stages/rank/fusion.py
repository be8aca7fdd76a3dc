"""Weighted rank fusion: the baseline of the ranker, and the result when there is no ranker.

Input: Candidates. Output: for each, sum over the sources that proposed it of weight / (60 + rank)
(reciprocal rank fusion, Cormack, Clarke and Buettcher 2009, with a weight per source). Knows no feature.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, RootModel

from features.arrays import LARGEST
from features.domain import Candidates, Floats, Ints, SegueError
from features.jit import compiled
from features.reading import RETRAIN
from features.validation import read_json

FILE = "fusion.json"
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

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(dict(self.weights), indent=1), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path, sources: Iterable[str]) -> Fusion:
        """What `save` wrote; SegueError where it is not a number for each of `sources` and for no other."""
        weights = read_json(folder / FILE, _Weights, "a weight for each source").root
        if set(weights) != (names := set(sources)):
            found = ", ".join(weights) or "none"
            raise SegueError(f"{folder / FILE}: expected weights of the sources {', '.join(sorted(names))}, found {found}. {RETRAIN}")
        return cls(weights)


class _Weights(RootModel[dict[str, Annotated[float, Field(ge=-LARGEST, le=LARGEST)]]]):
    model_config = ConfigDict(strict=True)


@compiled
def _add(ranks: Ints, weights: Floats, total: Floats) -> None:
    for source in range(len(ranks)):
        for i in range(len(total)):
            if ranks[source, i] > 0:
                total[i] += weights[source] / (DAMPING + ranks[source, i])
