"""Automatic configuration: sources that need data this dataset does not have are skipped, and ALS gets as wide as pays.

Input: a dataset and a config. Output: the config without open choices, and the reasons for each choice. The alternatives of a source
are tried in the order of the config, each against the best before it, on playlists masked for this alone; the first that does not
pay ends the trials. With a torch process group all workers fit together and get the same result. Knows no artifact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.config import Config, Recipe
from engine.train.fusion_weights import mean_ndcg
from features.dataset import Dataset
from features.progress import Progress, named, silent, under
from features.schema import CATEGORICAL_FEATURES, NUMERIC_FEATURES
from features.split import Split, hide
from stages.retrieve.catalogue.related_artists import RelatedRecipe
from stages.retrieve.catalogue.same_artist import AlbumRecipe, ArtistRecipe
from stages.retrieve.content.recipes import ContractiveRecipe, CosineRecipe, TransformerRecipe
from stages.retrieve.playlists.title import TitleRecipe
from stages.training_data import TrainingData

CONTENT, ARTISTS, ALBUMS, TITLES = "content", "artists", "albums", "titles"
NEEDS: Mapping[type[Recipe], tuple[str, ...]] = {
    CosineRecipe: (CONTENT,),
    ContractiveRecipe: (CONTENT,),
    TransformerRecipe: (CONTENT,),
    RelatedRecipe: (ARTISTS,),
    ArtistRecipe: (ARTISTS,),
    AlbumRecipe: (ALBUMS,),
    TitleRecipe: (TITLES, ARTISTS),
}
"""Of what one must be known for a source to say anything; what is not named here needs playlists alone."""
FEATURES = (*NUMERIC_FEATURES, *CATEGORICAL_FEATURES, "genre")
"""The catalog's columns that are content, beside who made a track."""


@dataclass(frozen=True)
class ResolvedConfig:
    """A config without open choices, and the reasons."""

    config: Config
    reasons: Mapping[str, Any]
    """`left_out`: what each source that was left out would have needed; `tried`: nDCG of each source's alternatives."""


def autoconfigure(dataset: Dataset, config: Config, report: Progress = silent) -> ResolvedConfig:
    """The same config for the same dataset and seed, whatever else runs."""
    known = what_is_known(dataset)
    needs = {name: NEEDS.get(type(recipe), ()) for name, recipe in config.sources.recipes().items()}
    left_out = {name: " or ".join(of_source) for name, of_source in needs.items() if of_source and not known & set(of_source)}
    config = config.without(left_out)
    tried: dict[str, list[dict[str, Any]]] = {}
    if alternatives := config.ladders():
        split = _split(dataset, config)
        for name, recipes in alternatives.items():
            best, tried[name] = _best_alternative(name, recipes, dataset, split, config, report)
            config = config.with_source(name, best)
    return ResolvedConfig(config.model_copy(update={"alternatives": {}}), {"left_out": left_out, "tried": tried})


def what_is_known(dataset: Dataset) -> set[str]:
    """Of CONTENT, ARTISTS, ALBUMS and TITLES those of which the dataset holds any."""
    catalog, held = dataset.catalog, dataset.interactions
    facts = {
        CONTENT: any(catalog.table[feature].null_count() < len(catalog) for feature in FEATURES),
        ARTISTS: bool((catalog.artists >= 0).any()),
        ALBUMS: bool((catalog.albums >= 0).any()),
        TITLES: any(title.strip() for title in held.titles),
    }
    return {name for name, is_known in facts.items() if is_known}


def _split(dataset: Dataset, config: Config) -> Split:
    """Masked playlists out of a sample of whole ones, so that trials cost no more on a large dataset."""
    sample = dataset.interactions.sampled(config.trials.entries, config.seed)
    count = min(config.trials.playlists, sample.num_playlists // 2)
    chosen = np.random.default_rng(config.seed).permutation(sample.num_playlists)[:count]
    return hide(sample, np.sort(chosen).astype(np.int32), config.seed)


def _best_alternative(
    name: str, recipes: list[Recipe], dataset: Dataset, split: Split, config: Config, report: Progress
) -> tuple[Recipe, list[dict[str, Any]]]:
    """The last recipe that paid, and the nDCG of all that were tried."""
    data = TrainingData.of(split.visible, dataset.catalog, config.content_matrix, config.seed, serves=False)
    best, most, tried = recipes[0], 0.0, []
    for i, recipe in enumerate(recipes):
        ndcg = mean_ndcg(recipe.fit(data, named(under(report, f"trial {i + 1}"), name)), split.queries, split.qrels)
        tried.append({**recipe.model_dump(exclude={"index"}), "ndcg@500": round(ndcg, 4)})
        if i and ndcg < most * (1 + config.trials.worth):
            break
        best, most = recipe, ndcg
    return best, tried
