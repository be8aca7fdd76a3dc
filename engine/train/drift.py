"""Drift: how far the sources that serve have moved from the masked ones that the ranker learned from.

Input: the masked sources, the same ones fitted again on everything, and queries. Output: per source how many of its first
tracks stayed, and by what factor the scores of those changed. The ranker's trees split on scores, so a factor far from 1 is
what its relative features and ranks are there for. Part of the change is no drift but knowledge: the final sources have seen
what was hidden from the queries. Knows no ranker and no file.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from features.domain import MAX_ANSWER, NO_TRACK, Queries, Retrieved
from stages.protocols import Retriever

QUERIES = 100
"""So many are asked."""


def drift(masked: Mapping[str, Retriever], final: Mapping[str, Retriever], queries: Queries) -> dict[str, dict[str, float]]:
    """Per source: `kept`, the share of its first MAX_ANSWER tracks that are still there, and `score_ratio`, the median of new
    over old scores of these; a source that says nothing is left out."""
    asked = queries.part(0, QUERIES)
    found = {name: _moved(source.retrieve(asked, MAX_ANSWER), final[name].retrieve(asked, MAX_ANSWER)) for name, source in masked.items()}
    return {name: moved for name, moved in found.items() if moved}


def _moved(before: Retrieved, after: Retrieved) -> dict[str, float]:
    kept, ratios, asked = 0, [], int((before.tracks != NO_TRACK).sum())
    for old, new, old_scores, new_scores in zip(before.tracks, after.tracks, before.scores, after.scores, strict=True):
        _, at_old, at_new = np.intersect1d(old[old != NO_TRACK], new[new != NO_TRACK], return_indices=True)
        kept += len(at_old)
        ratios.append(new_scores[at_new] / np.where(old_scores[at_old] == 0, np.nan, old_scores[at_old]))
    if not kept:
        return {"kept": 0.0} if asked else {}
    return {"kept": kept / asked, "score_ratio": float(np.nanmedian(np.concatenate(ratios)))}
