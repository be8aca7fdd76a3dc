from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from features.domain import Floats
from stages.rank.fusion import Fusion
from tests.contracts import Planted, RankerContract


class TestFusion(RankerContract):
    def trained(self, planted: Planted) -> Fusion:
        return Fusion({"good": 1.0, "bad": 0.05})

    def score(self, ranker: Fusion, planted: Planted) -> Floats:
        return ranker.score(planted.candidates)

    def kept(self, ranker: Fusion, folder: Path) -> Fusion:
        (folder / "fusion.json").write_text(json.dumps(dict(ranker.weights)))
        return Fusion(json.loads((folder / "fusion.json").read_text()))


def test_the_score_is_the_weighted_sum_of_reciprocal_ranks() -> None:
    planted = Planted.of(2, per_query=5)
    scores = Fusion({"good": 0.5, "nobody": 9.0}).score(planted.candidates)
    good, bad = planted.candidates.ranks
    np.testing.assert_allclose(scores, 0.5 / (60 + good) + 1 / (60 + bad), rtol=1e-6)


def test_a_source_that_did_not_propose_a_track_adds_nothing() -> None:
    planted = Planted.of(1, per_query=3)
    planted.candidates.ranks[1][:] = 0
    np.testing.assert_array_equal(Fusion({}).score(planted.candidates), Fusion({"bad": 5.0}).score(planted.candidates))


def test_two_sources_that_agree_go_before_one_alone() -> None:
    planted = Planted.of(1, per_query=3)
    planted.candidates.ranks[0][:] = [1, 2, 0]
    planted.candidates.ranks[1][:] = [0, 2, 1]
    scores = Fusion({}).score(planted.candidates)
    assert scores[1] > scores[0] == scores[2]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_weight_of_0_silences_a_source(weight: float) -> None:
    planted = Planted.of(1, per_query=10)
    scores = Fusion({"good": weight, "bad": 0.0}).score(planted.candidates)
    assert scores.any() == bool(weight)
