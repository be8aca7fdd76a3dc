"""The report: how good each source, their union, fusion and the ranker are, on playlists whose hidden tracks are known.

Input: a pipeline, queries and their qrels. Output: per list the metrics of `metrics` with their intervals, overall
and by category, the union's recall ceiling and what would be lost without each source. A ranker is judged against the
order it was given and never without the ceiling it was given. Knows neither training nor serving.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.evaluate import metrics
from engine.model import Model
from engine.pipeline import Pipeline, batches, top_k
from engine.provenance import provenance
from features.atomic import written_whole
from features.challenge import read_challenge, read_truth
from features.domain import MAX_ANSWER, Candidates, Ints, Qrels, Queries, Ranking
from features.progress import Progress, silent
from features.split import SHAPES
from stages.retrieve.union import unite

SHORT = 10
"""Coverage and personalization are of the first so many."""
FUSION, RANKER = "fusion", "ranker"

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Every list of one and the same queries, side by side."""

    rankings: Mapping[str, Ranking]
    """Per source, then fusion and ranker: (q, MAX_ANSWER)."""
    ceilings: Values
    """(q,) share of the relevant tracks that the ranker was given."""
    union: Values
    """(q,) share of the relevant tracks that any source proposed, before the union was cut to what is ranked."""
    without: Mapping[str, Values]
    """Per source: (q,) the same of the union of all the others."""


def evaluate(model: Model, challenge: Path, truth: Path, progress: Progress = silent) -> dict[str, Any]:
    """The report of `model` on the playlists of a challenge file, whose hidden tracks are in the table `truth`."""
    vocabulary = model.names.vocabulary
    playlists = read_challenge(challenge, vocabulary)
    hidden = read_truth(truth, playlists.pids, vocabulary)
    comparison = compare(model.pipeline, playlists.queries, hidden.qrels, progress)
    result = report(comparison, hidden.qrels, hidden.categories, len(vocabulary), model.config.seed)
    return {**result, "importance": model.artifact.manifest.metrics["importance"]}


def compare(pipeline: Pipeline, queries: Queries, qrels: Qrels, progress: Progress = silent) -> Comparison:
    """Asks everything once, in batches of bounded memory."""
    parts: list[Comparison] = []
    done = 0
    for batch in batches(queries):
        parts.append(_compare(pipeline, batch, qrels.part(done, done + len(batch))))
        done += len(batch)
        progress("evaluate", done / len(queries))
    return Comparison(
        {name: Ranking.join([part.rankings[name] for part in parts]) for name in parts[0].rankings},
        np.concatenate([part.ceilings for part in parts]),
        np.concatenate([part.union for part in parts]),
        {name: np.concatenate([part.without[name] for part in parts]) for name in parts[0].without},
    )


def _compare(pipeline: Pipeline, queries: Queries, qrels: Qrels) -> Comparison:
    second, retrieved = pipeline.second, pipeline.retrieve(queries)
    rankings = {name: Ranking(result.tracks[:, :MAX_ANSWER], result.scores[:, :MAX_ANSWER]) for name, result in retrieved.items()}
    candidates = second.candidates(retrieved, MAX_ANSWER)
    rankings[FUSION] = top_k(candidates, second.fusion.score(candidates), MAX_ANSWER).ranking
    rankings[RANKER] = top_k(candidates, second.scores(candidates, second.features(queries, candidates)), MAX_ANSWER).ranking
    union = unite(retrieved)
    without = {name: metrics.recall_ceiling(_without(union, name), qrels) for name in retrieved}
    return Comparison(rankings, metrics.recall_ceiling(candidates, qrels), metrics.recall_ceiling(union, qrels), without)


def _without(union: Candidates, source: str) -> Candidates:
    """What is left of the union if `source` had proposed nothing."""
    others = [name != source for name in union.sources]
    kept = (union.ranks[others] > 0).any(axis=0)
    offsets = np.concatenate([[0], np.cumsum(kept)])[union.offsets]
    return Candidates(union.tracks[kept], offsets.astype(np.int64), (), union.ranks[:0, kept], union.scores[:0, kept], {})


def report(comparison: Comparison, qrels: Qrels, categories: Ints, num_tracks: int, seed: int = 0) -> dict[str, Any]:
    """Plain numbers by name, as `segue evaluate --json` writes them."""
    return {
        "queries": len(qrels),
        "lists": {name: _of_list(ranking, qrels, num_tracks, seed) for name, ranking in comparison.rankings.items()},
        "recall_ceiling": vars(metrics.mean_with_interval(comparison.ceilings, seed)),
        "union_recall": vars(metrics.mean_with_interval(comparison.union, seed)),
        "marginal_recall": {name: float(np.nanmean(comparison.union - values)) for name, values in comparison.without.items()},
        "categories": _by_category(comparison, qrels, categories),
    }


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """JSON, with what it was measured with; a metric of no query is null."""
    text = json.dumps(_without_nan({"circumstances": provenance(), **report}), indent=1)
    with written_whole(path) as scratch:
        scratch.write_text(text + "\n", encoding="utf-8")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def table(report: Mapping[str, Any]) -> tuple[list[str], list[list[float | int | str | None]]]:
    """(columns, rows) of a report for the terminal: each list with its metrics, the worst nDCG first."""
    names = ("r_precision", "ndcg@500", "clicks", "recall@500", "map@10")
    shares = (f"coverage@{SHORT}", f"personalization@{SHORT}")
    lists = sorted(report["lists"].items(), key=lambda item: item[1]["ndcg@500"]["value"])
    marginal = report["marginal_recall"]
    rows = [[name, *(of[m]["value"] for m in names), *(of[m] for m in shares), marginal.get(name)] for name, of in lists]
    return ["list", "r-prec", "ndcg", "clicks", "recall", "map@10", "coverage", "personal", "marginal"], rows


def category_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[float | int | str | None]]]:
    """(columns, rows): the ranker by category."""
    categories = report["categories"]
    return ["category", "queries", "r-prec", "ndcg", "clicks", "recall", "map@10", "ceiling"], [
        [name, *values.values()] for name, values in categories.items()
    ]


def _of_list(ranking: Ranking, qrels: Qrels, num_tracks: int, seed: int) -> dict[str, Any]:
    means = {name: vars(metrics.mean_with_interval(values, seed)) for name, values in metrics.per_query(ranking, qrels).items()}
    return {
        **means,
        f"coverage@{SHORT}": metrics.coverage(ranking, num_tracks, SHORT),
        f"personalization@{SHORT}": metrics.personalization(ranking, SHORT),
    }


def _by_category(comparison: Comparison, qrels: Qrels, categories: Ints) -> dict[str, dict[str, float]]:
    """Of the ranker, per category of the challenge: its metrics, the ceiling, and how many queries."""
    values = {**metrics.per_query(comparison.rankings[RANKER], qrels), "recall_ceiling": comparison.ceilings}
    return {
        _category(category): {
            "queries": int((categories == category).sum()),
            **{name: _mean(of_query[categories == category]) for name, of_query in values.items()},
        }
        for category in np.unique(categories)
    }


def _category(category: int) -> str:
    return f"{category} {SHAPES[category].name}" if 0 <= category < len(SHAPES) else "none"


def _mean(values: Values) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))
