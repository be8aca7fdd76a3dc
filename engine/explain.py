"""Why a track is in an answer: the pair features that raised its score most.

Input: a pipeline, one query and its answer. Output: a line of words per track. Knows no HTTP and no file.
"""

from __future__ import annotations

import numpy as np

from engine.pipeline import Answer, Pipeline
from features.domain import NO_TRACK, Queries

MOST_REASONS = 3


def reasons(pipeline: Pipeline, queries: Queries, answer: Answer) -> list[str]:
    """For each track of the answer to the one query in `queries`, best first: the features that added most to its score
    (TreeSHAP), by name with what they added. Without a ranker there is nothing to say."""
    tracks = answer.ranking.tracks[0]
    tracks = tracks[tracks != NO_TRACK]
    if pipeline.second.ranker is None or not len(tracks):
        return [""] * len(tracks)
    candidates = pipeline.second.candidates(pipeline.retrieve(queries), len(answer.ranking.tracks[0]))
    rows = np.searchsorted(candidates.tracks, tracks)  # candidates of one query ascend
    features = pipeline.second.pair_features.compute(queries, candidates)[rows]
    names = pipeline.second.pair_features.names
    return [_in_words(names, added) for added in pipeline.second.ranker.contributions(features)]


def _in_words(names: tuple[str, ...], added: np.ndarray) -> str:
    largest = [i for i in np.argsort(-added, kind="stable")[:MOST_REASONS] if added[i] > 0]
    return ", ".join(f"{names[i]} {added[i]:+.2f}" for i in largest)
