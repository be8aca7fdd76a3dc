"""Training one retriever: from a recipe and data to a trained source.

Input: a recipe, what it may learn from, and where to report progress. Output: a source that can retrieve. This is the only module
of `stages.retrieve` that leads to torch and the training code; nothing that serves imports it.
"""

from __future__ import annotations

from functools import singledispatch

from features.dataset import Dataset
from features.domain import SegueError
from features.frames import Pairs
from features.interactions import Interactions
from features.progress import Progress, silent
from stages.retrieve.als.training import fit_als
from stages.retrieve.autoencoder.training import fit_autoencoder
from stages.retrieve.catalogue.popularity import fit_popularity
from stages.retrieve.catalogue.same_artist import fit_album, fit_artist
from stages.retrieve.catalogue.training import fit_related
from stages.retrieve.content.training.contractive import fit_contractive
from stages.retrieve.content.training.cosine import fit_cosine
from stages.retrieve.content.training.transformer import fit_transformer
from stages.retrieve.factorization.training import fit_factorization
from stages.retrieve.item_item.training.graph import fit_graph
from stages.retrieve.item_item.training.slim import fit_slim
from stages.retrieve.playlists.neighbours import fit_neighbours
from stages.retrieve.playlists.title import fit_title
from stages.retrieve.recipe import Recipe
from stages.retrieve.source import Source
from stages.training_data import TrainingData, as_training_data


def fit(recipe: Recipe, data: TrainingData | Dataset | Interactions | Pairs, report: Progress = silent) -> Source:
    """Trains the source that `recipe` describes. With a torch process group all workers call it together.

    `data` is what a retriever may learn from, or what becomes that with seed 0: a dataset, its interactions, or pairs of
    (playlist, track), see `features.frames`. SegueError for any other type, and where the training diverges.
    """
    if not isinstance(recipe, Recipe):
        found = f"the class {recipe.__name__}" if isinstance(recipe, type) else type(recipe).__name__
        raise SegueError(f"fit: expected a recipe such as AlsRecipe(), found {found}")
    return _fit(recipe, as_training_data(data), report)


@singledispatch
def _fit(recipe: Recipe, data: TrainingData, report: Progress) -> Source:
    """By the type of the recipe: the functions registered below name it as the type of their first parameter."""
    raise SegueError(f"fit: expected a recipe with a registered fit function, found {type(recipe).__name__}")


_fit.register(fit_als)
_fit.register(fit_graph)
_fit.register(fit_slim)
_fit.register(fit_related)
_fit.register(fit_autoencoder)
_fit.register(fit_factorization)
_fit.register(fit_cosine)
_fit.register(fit_contractive)
_fit.register(fit_transformer)
_fit.register(fit_neighbours)
_fit.register(fit_title)
_fit.register(fit_artist)
_fit.register(fit_album)
_fit.register(fit_popularity)
