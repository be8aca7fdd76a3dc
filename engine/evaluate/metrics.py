"""How good an answer was: the formulas of DESIGN.md, one value per query.

Input: a Ranking or Candidates, and the Qrels. Output: float64 arrays over the queries, NaN where a query has no
relevant track, and means with a bootstrap interval that say how many queries were left out for that. Knows no file,
no model, no category and no playlist.

Definitions: Zamani, Schedl, Lamere, Chen, "An Analysis of Approaches Taken in the ACM RecSys Challenge 2018"
(ACM TIST 10(5):57, 2019), with track-level R-precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.domain import Candidates, Ints, Offsets, Qrels, Ranking, SegueError

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

CHALLENGE_LENGTH = 500
"""Tracks in an answer of the RecSys Challenge 2018."""
CLICK_PAGE = 10
"""Tracks shown per click."""
NO_HIT_CLICKS = 51
"""Clicks when none of the 500 is relevant."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Judged:
    """A ranking held against its qrels: the one thing every ranking metric is made from."""

    hits: Flags
    """(q, k) whether the track at that rank is relevant; padding never is."""
    relevant: Offsets
    """(q,) how many tracks are relevant, those no vocabulary knows included."""


@dataclass(frozen=True)
class Mean:
    """A mean over the queries that have relevant tracks, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    queries: int
    """How many queries the mean is over."""
    without_relevant: int
    """How many were left out because nothing was relevant."""


def judge(ranking: Ranking, qrels: Qrels) -> Judged:
    """Looks up every ranked track once. A ranking that repeats a track within a query is a SegueError: it would count twice."""
    queries, width = ranking.tracks.shape
    _require_same_queries("ranking", queries, qrels)
    _require_distinct(ranking.tracks)
    rows = np.repeat(np.arange(queries), width)
    return Judged(_is_relevant(rows, ranking.tracks.ravel(), qrels).reshape(queries, width), qrels.relevant.lengths())


def recall(judged: Judged, k: int) -> Values:
    """(q,) recall@k = hits@k / |relevant|."""
    return _share(judged.hits[:, :k].sum(axis=1), judged.relevant)


def ndcg(judged: Judged, k: int) -> Values:
    """(q,) nDCG@k with gain 1 and discount 1/log2(rank + 1); the ideal has min(k, |relevant|) hits on top."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(judged.relevant, k)]
    hits = judged.hits[:, :k]
    return _share(hits @ discounts[: hits.shape[1]], ideal)


def r_precision(judged: Judged) -> Values:
    """(q,) hits among the first |relevant| ranks / |relevant|, tracks only: no credit for the right artist."""
    within = np.arange(judged.hits.shape[1]) < judged.relevant[:, None]  # (q, k)
    return _share((judged.hits & within).sum(axis=1), judged.relevant)


def clicks(judged: Judged) -> Values:
    """(q,) floor((first hit's rank - 1) / 10): pages of ten turned until a relevant track shows; 51 when none in 500. Lower is better."""
    hits = judged.hits[:, :CHALLENGE_LENGTH]
    if not hits.shape[1]:
        hits = np.zeros((len(hits), 1), np.bool_)  # argmax refuses rows without columns
    turned = np.where(hits.any(axis=1), hits.argmax(axis=1) // CLICK_PAGE, NO_HIT_CLICKS)
    return np.where(judged.relevant > 0, turned, np.nan)


def average_precision(judged: Judged, k: int = 10) -> Values:
    """(q,) AP@k = sum of precision@i over the hits at ranks i <= k, divided by min(k, |relevant|); its mean is MAP@k."""
    hits = judged.hits[:, :k]
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    return _share((precision * hits).sum(axis=1), np.minimum(judged.relevant, k))


def per_query(ranking: Ranking, qrels: Qrels) -> dict[str, Values]:
    """The report's five ranking metrics by name, (q,) each: those of the challenge at 500, and AP@10, whose mean is MAP@10."""
    judged = judge(ranking, qrels)
    return {
        "r_precision": r_precision(judged),
        "ndcg@500": ndcg(judged, CHALLENGE_LENGTH),
        "clicks": clicks(judged),
        "recall@500": recall(judged, CHALLENGE_LENGTH),
        "map@10": average_precision(judged, 10),
    }


def recall_ceiling(candidates: Candidates, qrels: Qrels) -> Values:
    """(q,) the share of the relevant tracks that is in the union: no ranker of these candidates can recall more."""
    _require_same_queries("candidates", len(candidates), qrels)
    rows = candidates.query_of()
    found = rows[_is_relevant(rows, candidates.tracks, qrels)]
    return _share(np.bincount(found, minlength=len(qrels)), qrels.relevant.lengths())


def coverage(ranking: Ranking, num_tracks: int, k: int) -> float:
    """Distinct tracks among the first `k` of all lists / tracks in the vocabulary; NaN for an empty vocabulary."""
    tracks = ranking.tracks[:, :k]
    return len(np.unique(tracks[tracks >= 0])) / num_tracks if num_tracks else float("nan")


def personalization(ranking: Ranking, k: int) -> float:
    """1 - mean cosine similarity over all pairs of lists cut at `k`: 0 where all are alike, 1 where none share a track.

    A list of m tracks is the unit vector with 1/sqrt(m) at each of them. With s the sum of the n unit vectors, the
    n(n-1) ordered pairs have cosines that add up to |s|^2 - n: one count per track instead of a product per pair.
    Empty lists have no direction and are left out; NaN with fewer than two others.
    """
    tracks = ranking.tracks[:, :k]
    lengths = (tracks >= 0).sum(axis=1)
    lists = int((lengths > 0).sum())
    if lists < 2:
        return float("nan")
    weights = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths)
    total = np.bincount(tracks[tracks >= 0], weights)  # (highest track + 1,)
    return float(1 - (total @ total - lists) / (lists * (lists - 1)))


def mean_with_interval(values: Values, seed: int, resamples: int = RESAMPLES) -> Mean:
    """The mean of the (q,) values that are no NaN, and the 2.5 and 97.5 percentiles of its bootstrap (Efron 1979).

    Queries are drawn with replacement, `resamples` times. All NaN gives a Mean of NaN over 0 queries.
    """
    known = values[~np.isnan(values)]
    left_out = len(values) - len(known)
    if not len(known):
        return Mean(float("nan"), float("nan"), float("nan"), 0, left_out)
    rng = np.random.default_rng(seed)
    means = [known[rng.integers(len(known), size=len(known))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Mean(float(known.mean()), float(low), float(high), len(known), left_out)


def _is_relevant(rows: Offsets, tracks: Ints, qrels: Qrels) -> Flags:
    """(n,) whether `tracks[j]` is relevant for query `rows[j]`; ids below 0 are padding or unknown and never are."""
    relevant = qrels.relevant
    num_tracks = 1 + max(tracks.max(initial=0), relevant.values.max(initial=0))
    known = relevant.values >= 0
    right = relevant.owners()[known] * np.int64(num_tracks) + relevant.values[known]
    return np.isin(rows * np.int64(num_tracks) + tracks, right) & (tracks >= 0)


def _share(part: npt.NDArray[np.generic], whole: npt.NDArray[np.generic]) -> Values:
    """part / whole, NaN where whole is 0."""
    result = np.full(len(whole), np.nan)
    np.divide(part, whole, out=result, where=whole > 0)  # type: ignore[operator]
    return result


def _require_same_queries(name: str, queries: int, qrels: Qrels) -> None:
    if queries != len(qrels):
        raise SegueError(
            f"qrels do not belong to the {name}: expected {queries} queries, found {len(qrels)}. "
            "They come from two challenges. Evaluate both on the same one."
        )


def _require_distinct(tracks: Ints) -> None:
    ordered = np.sort(tracks, axis=1)
    repeated = np.argwhere((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))
    if len(repeated):
        query, place = repeated[0]
        raise SegueError(
            f"ranking: expected every track once per query, found track {ordered[query, place]} twice for query {query}. "
            "Two sources were joined without a union. Remove the repeats."
        )
