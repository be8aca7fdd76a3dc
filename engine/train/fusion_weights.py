"""The weights of the fusion: each source counts as much as its own list is good, by nDCG@500.

Input: trained sources, queries and their qrels. Output: one weight a source. With a torch process group each worker retrieves for its
share of the queries, and all get the same weights. Knows no file.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from engine.evaluate import metrics
from engine.pipeline import rank_by_source
from features.domain import MAX_ANSWER, Qrels, Queries
from stages import parallel
from stages.protocols import Retriever
from stages.rank.fusion import Fusion


def fit_fusion(sources: Mapping[str, Retriever], queries: Queries, qrels: Qrels) -> Fusion:
    """Each source weighs as much as its own nDCG, so that a weak source cannot outvote a strong one."""
    found = {name: mean_ndcg(source, queries, qrels) for name, source in sources.items()}
    best = max(found.values()) or 1.0
    return Fusion({name: value / best for name, value in found.items()})


def mean_ndcg(source: Retriever, queries: Queries, qrels: Qrels) -> float:
    """Mean over all queries; the same number however many workers there are, 1 without queries."""
    if not len(queries):
        return 1.0
    start, stop = parallel.shard(len(queries))
    values = torch.zeros(len(queries), dtype=torch.float64)
    if start < stop:
        ranking = rank_by_source(source, queries.part(start, stop), MAX_ANSWER)
        values[start:stop] = torch.from_numpy(metrics.ndcg(metrics.judge(ranking, qrels.part(start, stop)), MAX_ANSWER))
    return float(np.mean(parallel.all_reduce_sum(values).numpy()))
