"""Training one retriever: from a recipe and data to a trained source.

Input: a recipe, what it may learn from, and where to report progress. Output: a source that can retrieve. This is the only module
of `stages.retrieve` that leads to torch and the training code; nothing that serves imports it.
"""

from __future__ import annotations

from functools import singledispatch

from features.domain import SegueError
from features.progress import Progress, silent
from stages.protocols import Retriever
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
from stages.training_data import TrainingData


def fit(recipe: Recipe, data: TrainingData, report: Progress = silent) -> Retriever:
    """Trains the source that `recipe` describes. With a torch process group all workers call it together."""
    return _fit(recipe, data, report)


@singledispatch
def _fit(recipe: object, data: TrainingData, report: Progress) -> Retriever:
    """By the type of the recipe: the functions registered below name it as the type of their first parameter."""
    raise SegueError(f"fit: expected a recipe such as AlsRecipe(), found {type(recipe).__name__}")


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
