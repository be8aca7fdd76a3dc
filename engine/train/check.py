"""The figures that a new artifact carries: how good each list is on playlists that no model learned from.

Input: the pipeline of a fold, the ranker, the queries left for the check, and the sources that will serve. Output: figures by name.
Knows no training and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from engine.evaluate import metrics
from engine.evaluate.report import compare
from engine.pipeline import Pipeline
from engine.train.drift import drift
from features.domain import MAX_ANSWER, Qrels, Queries, Ranking
from stages.protocols import Retriever
from stages.rank.lambdamart import LambdaMart


def check(pipeline: Pipeline, ranker: LambdaMart, queries: Queries, qrels: Qrels, final: Mapping[str, Retriever]) -> dict[str, Any]:
    """nDCG@500 and recall@500 of every source alone, of fusion and of the ranker, and the share of the hidden tracks that the ranker
    was given at all; beside them the drift from the pipeline's sources, which did not see what is hidden, to the `final` ones."""
    if not len(queries):
        return {"queries": 0}
    comparison = compare(Pipeline(pipeline.sources, replace(pipeline.second, ranker=ranker)), queries, qrels)
    return {
        "queries": len(queries),
        "recall_ceiling": float(np.nanmean(comparison.ceilings)),
        "check": {name: _figures(ranking, qrels) for name, ranking in comparison.rankings.items()},
        "shift": drift(pipeline.sources, final, queries),
    }


def _figures(ranking: Ranking, qrels: Qrels) -> dict[str, float]:
    judged = metrics.judge(ranking, qrels)
    return {
        "ndcg@500": float(np.nanmean(metrics.ndcg(judged, MAX_ANSWER))),
        "recall@500": float(np.nanmean(metrics.recall(judged, MAX_ANSWER))),
    }
