"""What training does, phase by phase, as plain functions: no Ray, no file.

Input: a dataset and a config. Output: trained sources, the fusion's weights, the ranker's examples, the ranker, figures.
With a torch process group every worker calls the same phases: a source is fitted together, examples are made by each
worker for its own queries. The hidden tracks of the masked playlists live in `Split.qrels`; what fits a source is handed
`Split.visible` and nothing else. Knows no cluster and no artifact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from engine.config import Config
from engine.evaluate import metrics
from engine.evaluate.report import compare
from engine.model import Trained
from engine.pipeline import Pipeline, batches, second_stage
from engine.train.autoconfig import autoconfigure
from engine.train.drift import shift
from engine.train.fusion_weights import weigh
from features.dataset import Dataset
from features.domain import MAX_ANSWER, Ints, Qrels, Queries, Ranking
from features.interactions import Interactions
from features.pairs import Facts
from features.schema import IS_CHALLENGE
from features.split import Split, hide
from stages.protocols import Report, Retriever, TrainingData, named, silent, staged
from stages.rank.examples import Examples, sample
from stages.rank.fusion import Fusion
from stages.rank.lambdamart import LambdaMart

FUSION_QUERIES = 300
"""Queries that the fusion's weights are read from."""


def train(dataset: Dataset, config: Config, threads: int = 1, report: Report = silent) -> Trained:
    """Every phase in this process, one after the other."""
    settled = autoconfigure(dataset, config, report)
    config = settled.config
    folds = [masked(dataset, config, fold) for fold in range(config.examples.folds)]
    pipelines: list[Pipeline] = []
    parts: list[Examples] = []
    for fold, split in enumerate(folds):
        fusion = pipelines[0].second.fusion if pipelines else None
        pipelines.append(masked_pipeline(dataset, split, config, staged(report, masked_stage(fold)), fusion))
        parts.append(make_examples(split, learn_from(split, config), pipelines[fold], config, staged(report, examples_stage(fold))))
    ranker = config.ranker.fit(Examples.join(parts), config.seed, threads, report=report)
    everything = visible(dataset, dataset.interactions, config)
    sources = fit_sources(everything, config, report)
    figures = {**check(folds[0], pipelines[0], ranker, sources, config), **settled.said}
    return Trained(sources, facts(everything), pipelines[0].second.fusion, ranker, figures, config)


def masked_stage(fold: int) -> str:
    """The stage in which the sources see the seeds alone of the fold's masked playlists."""
    return f"masked {fold + 1}"


def examples_stage(fold: int) -> str:
    return f"examples {fold + 1}"


def visible(dataset: Dataset, interactions: Interactions, config: Config, *, serves: bool = True) -> TrainingData:
    """What may be learned from: `interactions` is the dataset's own, or what a Split left visible of it. Masked sources do
    not serve: they make examples, by exact indexes, unless the config names another."""
    return TrainingData.of(interactions, dataset.catalog, config.content_matrix, config.seed, serves)


def facts(data: TrainingData) -> Facts:
    return Facts.of(data.interactions, data.catalog)


def masked(dataset: Dataset, config: Config, fold: int = 0) -> Split:
    """A fold's playlists, hidden from stage one for the ranker's sake, others than any other fold's; never a challenge
    playlist, whose tracks are not all known."""
    complete = np.flatnonzero(~dataset.playlists[IS_CHALLENGE].to_numpy())
    asked = config.examples
    count = min(asked.playlists // asked.folds, len(complete) // asked.folds, int(len(complete) * asked.share))
    chosen = np.random.default_rng(config.seed).permutation(complete)[fold * count : (fold + 1) * count]
    return hide(dataset.interactions, np.sort(chosen).astype(np.int32), config.seed + fold)


def fit_sources(data: TrainingData, config: Config, report: Report = silent) -> dict[str, Retriever]:
    return {name: recipe.fit(data, named(report, name)) for name, recipe in config.sources.recipes().items()}


def masked_pipeline(dataset: Dataset, split: Split, config: Config, report: Report = silent, fusion: Fusion | None = None) -> Pipeline:
    """Sources that saw only what the split left visible; fusion, where none is given, weighed by how they do on its queries."""
    data = visible(dataset, split.visible, config, serves=False)
    sources = fit_sources(data, config, report)
    return Pipeline(
        sources, second_stage(sources, facts(data), fusion or weigh(sources, *for_fusion(split, config)), None, config.candidates)
    )


def for_fusion(split: Split, config: Config) -> tuple[Queries, Qrels]:
    """What the fusion's weights are read from."""
    return select(split, learn_from(split, config)[:FUSION_QUERIES])


def _is_for_check(split: Split, config: Config) -> np.ndarray:
    """(q,) which queries the ranker does not learn from: by a hash of the playlist, so that order and workers do not matter."""
    return _digests(f"{config.seed}", split.playlists) < config.examples.check_share * 2**32


def _digests(salt: str, playlists: Ints) -> np.ndarray:
    """(len(playlists),) an even number from 0 to 2^32 for each playlist, which depends on nothing else but `salt`."""
    digests = (hashlib.blake2b(f"{salt} {playlist}".encode(), digest_size=4).digest() for playlist in playlists)
    return np.array([int.from_bytes(digest, "big") for digest in digests], np.int64)


def learn_from(split: Split, config: Config) -> Ints:
    """The queries of the split that the ranker learns from."""
    return np.flatnonzero(~_is_for_check(split, config)).astype(np.int32)


def share_of(split: Split, chosen: Ints, worker: int, workers: int) -> Ints:
    """Those of the `chosen` queries whose examples `worker` makes: whole queries, by a hash of the playlist."""
    own: Ints = chosen[_digests("worker", split.playlists[chosen]) % workers == worker]
    return own


def select(split: Split, chosen: Ints) -> tuple[Queries, Qrels]:
    return Queries.of(split.queries[int(i)] for i in chosen), Qrels.of([split.qrels.of_query(int(i)) for i in chosen])


def make_examples(split: Split, chosen: Ints, pipeline: Pipeline, config: Config, report: Report = silent) -> Examples:
    """The examples of the `chosen` queries of the split; which of a query's misses stay depends on its playlist alone."""
    queries, qrels = select(split, chosen)
    parts, done = [Examples.none(pipeline.second.pair_features.names)], 0
    for batch in batches(queries):
        rows = slice(done, done + len(batch))
        candidates = pipeline.second.candidates(pipeline.retrieve(batch), MAX_ANSWER)
        seeds = [(config.seed, int(playlist)) for playlist in split.playlists[chosen[rows]]]
        kept, labels, groups = sample(candidates, qrels.part(rows.start, rows.stop), config.examples.misses, seeds)
        parts.append(Examples(pipeline.second.pair_features.compute(batch, candidates)[kept], labels, groups, parts[0].names))
        done += len(batch)
        report("", done / len(queries), {"queries": float(done)})
    return Examples.join(parts)


def check(split: Split, pipeline: Pipeline, ranker: LambdaMart, final: Mapping[str, Retriever], config: Config) -> dict[str, Any]:
    """The manifest's figures: nDCG@500 and recall@500 of every source alone, of fusion and of the ranker, and the share of
    the hidden tracks that the ranker was given at all. From masked playlists that the ranker learned nothing of, by the
    sources of their own fold, which did not see what is hidden. Beside them the shift to the `final` sources."""
    queries, qrels = select(split, np.flatnonzero(_is_for_check(split, config)).astype(np.int32))
    if not len(queries):
        return {"queries": 0}
    comparison = compare(Pipeline(pipeline.sources, replace(pipeline.second, ranker=ranker)), queries, qrels)
    figures = {name: _figures(ranking, qrels) for name, ranking in comparison.rankings.items()}
    return {
        "queries": len(queries),
        "recall_ceiling": float(np.nanmean(comparison.ceilings)),
        "check": figures,
        "shift": shift(pipeline.sources, final, queries),
    }


def _figures(ranking: Ranking, qrels: Qrels) -> dict[str, float]:
    judged = metrics.judge(ranking, qrels)
    return {
        "ndcg@500": float(np.nanmean(metrics.ndcg(judged, MAX_ANSWER))),
        "recall@500": float(np.nanmean(metrics.recall(judged, MAX_ANSWER))),
    }
