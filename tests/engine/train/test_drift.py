from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from engine.train.drift import drift
from features.domain import Queries, Retrieved
from tests import worlds


@dataclass(frozen=True)
class Says:
    """A source that gives everybody the same."""

    tracks: tuple[int, ...]
    scores: tuple[float, ...]

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        rows = len(queries)
        tracks = np.tile(np.array(self.tracks, np.int32), (rows, 1))
        return Retrieved(tracks, np.tile(np.array(self.scores, np.float32), (rows, 1)))


def test_what_stayed_and_by_how_much_its_scores_changed() -> None:
    before = {"a": Says((1, 2, 3, -1), (4, 2, 1, -np.inf)), "silent": Says((-1,), (-np.inf,)), "gone": Says((1,), (1,))}
    after = {"a": Says((3, 9, 1, 8), (2, 2, 12, 1)), "silent": Says((-1,), (-np.inf,)), "gone": Says((2,), (1,))}
    found = drift(before, after, worlds.queries(worlds.query(5), worlds.query(6)))  # type: ignore[arg-type]
    assert found == {"a": {"kept": pytest.approx(2 / 3), "score_ratio": pytest.approx(2.5)}, "gone": {"kept": 0.0}}
