"""What a training does, from a dataset to a trained model, told once.

    settled      the config without open choices: sources that the data say nothing for are skipped, ALS as wide as pays
    masked N     for each fold of masked playlists, the sources fitted without what is hidden ...
    fusion       ... of the first fold: what each source is worth
    examples N   ... and what these sources propose for the masked playlists, labelled by what is hidden
    final        the sources fitted on everything: those that will serve
    ranker       the ranker learned from all examples, and its figures

Input: a dataset, a config, and a store for the results of the phases. Output: a Trained. With a torch process group every worker
calls the same phases: a source is fitted together, each worker makes the examples of its own queries. A warm start takes settings,
fusion and ranker from a previous model, and fits only the final sources. Knows no Ray, no file and no cluster.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch

from engine.config import Config, Recipe
from engine.model import Trained
from engine.pipeline import Pipeline, batches, second_stage
from engine.train.autoconfig import ResolvedConfig, autoconfigure
from engine.train.check import check
from engine.train.folds import Fold, learn_from, select, share_of, training_data
from engine.train.fusion_weights import fit_fusion
from engine.train.phase_files import CheckedRanker, ConfigFiles, ExamplesFiles, FusionFiles, RankerFiles, SourceFiles
from engine.train.phase_store import MEMORY, PhaseStore, no_network
from engine.train.warm_start import PreviousModel
from features.dataset import Dataset
from features.domain import MAX_ANSWER, Ints, SegueError
from features.pairs import Facts
from features.progress import Progress, named, silent, under
from features.split import Split
from stages import parallel
from stages.protocols import Retriever
from stages.rank.examples import Examples, sample
from stages.rank.fusion import Fusion
from stages.rank.lambdamart import LambdaMart
from stages.resume import CheckpointStore, TrainingContext, WarmStart
from stages.training_data import TrainingData

SETTLED, FUSION, FINAL, RANKER = "settled", "fusion", "final", "ranker"
Sources = dict[str, Retriever]
Network = Callable[[], Mapping[str, Any] | None]
"""LightGBM's own parameters that join the workers; None with one worker."""


def train(
    dataset: Dataset,
    config: Config,
    store: PhaseStore = MEMORY,
    *,
    threads: int = 1,
    network: Network = no_network,
    report: Progress = silent,
    previous: PreviousModel | None = None,
) -> Trained:
    """Every phase in its order; those that `store` holds from an interrupted run are not computed again."""
    if previous:
        return _train_warm(dataset, store, report, previous)
    resolved = store.once(SETTLED, lambda _: autoconfigure(dataset, config, report), ConfigFiles())
    config = resolved.config
    folds = [_learn_fold(Fold(dataset, config, number), store, report) for number in range(config.examples.folds)]
    final = _fit_final(dataset, config, store, report)
    rank = partial(_fit_ranker, folds, final, config, threads, network, report)
    checked = store.once(RANKER, rank, RankerFiles())
    return _trained(dataset, final, folds[0].fusion, checked, resolved)


def _train_warm(dataset: Dataset, store: PhaseStore, report: Progress, previous: PreviousModel) -> Trained:
    """The previous model's settings, fusion and ranker stand; its figures, of other sources, are not repeated."""
    resolved = previous.resolved
    warm = previous.sources(dataset.vocabulary)
    final = _fit_final(dataset, resolved.config, store, report, warm, previous.effort)
    fusion, ranker = previous.ranking()
    return _trained(dataset, final, fusion, CheckedRanker(ranker, {}), resolved)


def _trained(dataset: Dataset, final: Sources, fusion: Fusion, checked: CheckedRanker, resolved: ResolvedConfig) -> Trained:
    facts = partial(Facts.of, dataset.interactions, dataset.catalog)
    return Trained(final, facts, fusion, checked.ranker, {**checked.figures, **resolved.reasons}, resolved.config)


# --- what the ranker learns from ---


@dataclass(frozen=True)
class LearnedFold:
    """What a fold of masked playlists is there for."""

    fold: Fold
    pipeline: Callable[[], Pipeline]
    """Its sources and the fusion; built when it is first called."""
    fusion: Fusion
    examples: Callable[[], Examples]
    """This worker's own."""


def _learn_fold(fold: Fold, store: PhaseStore, report: Progress) -> LearnedFold:
    """Sources that see none of what is hidden, and the examples that they make."""
    config, stage = fold.config, fold.masked_stage
    sources = fit_sources(lambda: fold.data, fold.dataset.interactions.num_tracks, config, store.under(stage), under(report, stage))
    fusion = store.once(FUSION, lambda _: fit_fusion(sources, *fold.for_fusion()), FusionFiles())
    pipeline = cache(lambda: masked_pipeline(fold, sources, fusion))

    def make() -> Examples:
        chosen = share_of(fold.split, learn_from(fold.split, config), parallel.worker_rank(), parallel.num_workers())
        return make_examples(fold.split, chosen, pipeline(), config, progress)

    progress = named(report, fold.examples_stage)
    examples = store.mine(fold.examples_stage, make, ExamplesFiles(), progress)
    fold.free()
    return LearnedFold(fold, pipeline, fusion, examples)


def masked_pipeline(fold: Fold, sources: Mapping[str, Retriever], fusion: Fusion) -> Pipeline:
    """The pipeline that saw only what the fold's split left visible."""
    facts = Facts.of(fold.split.visible, fold.dataset.catalog)
    return Pipeline(sources, second_stage(sources, facts, fusion, None, fold.config.candidates))


def make_examples(split: Split, chosen: Ints, pipeline: Pipeline, config: Config, report: Progress = silent) -> Examples:
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


# --- the sources ---


def _fit_final(
    dataset: Dataset,
    config: Config,
    store: PhaseStore,
    report: Progress,
    warm: Mapping[str, WarmStart] | None = None,
    effort: float = 1.0,
) -> Sources:
    """The sources that will serve, from all that is known."""
    data = cache(lambda: training_data(dataset, dataset.interactions, config))
    return fit_sources(data, dataset.interactions.num_tracks, config, store.under(FINAL), report, warm, effort)


def fit_sources(
    data: Callable[[], TrainingData],
    num_tracks: int,
    config: Config,
    store: PhaseStore = MEMORY,
    report: Progress = silent,
    warm: Mapping[str, WarmStart] | None = None,
    effort: float = 1.0,
) -> Sources:
    """Every source of the config, one after the other, each by all workers together; `data` is called when one has to be fitted.

    `warm`: by name, where a source starts; it then takes the share `effort` of its steps.
    """
    sources: Sources = {}
    for name, recipe in config.sources.recipes().items():
        start = (warm or {}).get(name)
        fit = partial(_fit_source, recipe, data, named(report, name), start, effort if start else 1.0)
        sources[name] = store.once(name, fit, SourceFiles(recipe, num_tracks), named(report, name))
    return sources


def _fit_source(
    recipe: Recipe, data: Callable[[], TrainingData], report: Progress, start: WarmStart | None, effort: float, steps: CheckpointStore
) -> Retriever:
    return recipe.fit(replace(data(), past=TrainingContext(steps, start, effort)), report)


# --- the ranker ---


def _fit_ranker(
    folds: Sequence[LearnedFold],
    final: Mapping[str, Retriever],
    config: Config,
    threads: int,
    network: Network,
    report: Progress,
    steps: CheckpointStore,
) -> CheckedRanker:
    """By LightGBM's distributed learner over every worker's own queries; worker 0 then measures it, as it alone saves it."""
    examples = Examples.join([fold.examples() for fold in folds])
    fitted = config.ranker.fit(examples, config.seed, threads, network(), report, steps)
    ranker = replace(fitted, text=without_addresses(fitted.text))
    require_same_on_all_workers(ranker)
    if parallel.worker_rank() != 0:
        return CheckedRanker(ranker, {})
    queries, qrels = folds[0].fold.for_check()
    figures = check(folds[0].pipeline(), ranker, queries, qrels, final)
    report("check", 1.0, {})
    return CheckedRanker(ranker, figures)


def without_addresses(text: str) -> str:
    """The same trees without the addresses and ports of the workers that grew them."""
    text = re.sub(r"^\[machines: .*\]$", "[machines: ]", text, flags=re.MULTILINE)
    return re.sub(r"^\[local_listen_port: \d+\]$", "[local_listen_port: 12400]", text, flags=re.MULTILINE)


def require_same_on_all_workers(ranker: LambdaMart) -> None:
    """Each worker holds the model of all examples, or it has silently learned from its own alone."""
    own = hashlib.sha256(ranker.text.encode())
    first = parallel.broadcast(torch.tensor(list(own.digest()), dtype=torch.uint8))
    expected, found = bytes(first.tolist()).hex(), own.hexdigest()
    if found != expected:
        raise SegueError(
            f"ranker: expected all workers to end with the model of sha256 {expected[:12]}, found {found[:12]} on worker "
            f"{parallel.worker_rank()}. LightGBM did not train together. Report this with your config, or train with one worker"
        )
