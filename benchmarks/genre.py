"""Genre precision of the three content models: do nearest neighbours share a genre? Needs a table of tracks and no playlist.

Input: a parquet or CSV table of tracks with audio features and a genre. Output: one JSON with precision@10, reciprocal rank
and mean similarity of each model's answers to random tracks, the autoencoder's loss on tracks it saw and on tracks it did
not, and the circumstances. Each model is measured twice: with the genre among its features, as published systems of this
kind are, so that it is asked for what it was told; and without, which says what the sound alone knows of the genre.

    python -m benchmarks.genre TRACKS.parquet --out genre.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from engine.provenance import provenance
from features.catalog import Catalog
from features.content import ContentRecipe
from features.domain import Queries, Query, Retrieved
from features.interactions import Interactions
from features.readers import read_tracks
from features.schema import CATALOG
from stages.retrieve.content.recipes import ContractiveRecipe, CosineRecipe, GroupWeights, TransformerRecipe
from stages.retrieve.content.training.contractive import to_unit_range, train
from stages.retrieve.recipe import Recipe
from stages.training_data import TrainingData

K = 10
HELD_OUT = 0.1
ALIKE = GroupWeights(artist=0, genre=1, audio=1, duration=0.1, popularity=0.1, year=0.1, explicit=0.1, missing=0)
"""For whoever asks for genre and sound and not for playlists, which the default weights were chosen on."""
RECIPES: Mapping[str, Any] = {
    "cosine, default weights": CosineRecipe(dim=1024),
    "cosine, genre and audio alike": CosineRecipe(dim=1024, weights=ALIKE),
    "contractive": ContractiveRecipe(),
    "transformer": TransformerRecipe(),
}


def world(tracks: Path, with_genre: bool, seed: int) -> TrainingData:
    """What a retriever learns from where nobody holds anything: the tracks that have a genre, without their artists.

    An artist's components would carry the genre of the artist's other tracks into the matrix without genres.
    """
    table = read_tracks(tracks).filter(pl.col("genre").is_not_null()).select(*CATALOG)
    nobody = Interactions(np.empty(0, np.int32), np.empty(0, np.float32), np.zeros(1, np.int64), (), table.height)
    recipe = ContentRecipe(artist_components=0, genres=table["genre"].n_unique() if with_genre else 0)
    content = recipe.fit(Catalog(table), nobody)
    kept = [i for i, name in enumerate(content.names) if with_genre or name != "missing genre"]
    return TrainingData(nobody, Catalog(table), content.values[:, kept], seed, tuple(content.names[i] for i in kept))


def measure(recipe: Recipe, visible: TrainingData, asked: np.ndarray) -> dict[str, Any]:
    """Of the `K` tracks nearest to each of `asked` (q,)."""
    start = time.perf_counter()
    source = recipe.fit(visible)
    seconds = time.perf_counter() - start
    found = source.retrieve(Queries.of(Query(np.array([track], np.int32)) for track in asked.tolist()), K)
    return {**figures(found, visible.catalog.table["genre"].to_numpy(), asked), "fit_seconds": round(seconds, 1)}


def figures(found: Retrieved, genres: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    """precision@K, the mean reciprocal rank of the first answer of the same genre (0 without one), the mean score."""
    same = (genres[found.tracks] == genres[asked][:, None]) & (found.tracks >= 0)  # (q, K)
    ranks = np.where(same.any(axis=1), same.argmax(axis=1) + 1, np.inf)
    return {
        "precision@10": round(float(same.mean()), 4),
        "mrr": round(float((1 / ranks).mean()), 4),
        "mean_similarity": round(float(found.scores[found.tracks >= 0].mean()), 4),
    }


def losses(recipe: ContractiveRecipe, visible: TrainingData) -> dict[str, float]:
    """Of an autoencoder that did not see HELD_OUT of the tracks: mean loss, the penalty included, of those it saw and of the others."""
    inputs = to_unit_range(visible.content)
    order = torch.from_numpy(np.random.default_rng(visible.seed).permutation(len(inputs)))
    held_out, seen = inputs[order].tensor_split([round(HELD_OUT * len(inputs))])
    model = train(recipe, seen, visible.seed)
    with torch.no_grad():
        both = {"train_loss": seen, "validation_loss": held_out}
        return {name: round(float(model.loss(part, recipe.jacobian_weight)) / len(part), 6) for name, part in both.items()}


def report(tracks: Path, queries: int, seed: int, recipes: Mapping[str, Any] = RECIPES) -> dict[str, Any]:
    """Every model, with the genre among its features and without, asked with the same random tracks."""
    result: dict[str, Any] = {}
    for name, with_genre in (("with genre among the features", True), ("without genre", False)):
        visible = world(tracks, with_genre, seed)
        asked = np.random.default_rng(seed).choice(visible.num_tracks, min(queries, visible.num_tracks), replace=False)
        models = {model: measure(recipe, visible, asked) for model, recipe in recipes.items()}
        models["contractive"] |= losses(recipes["contractive"], visible)
        result[name] = {"tracks": visible.num_tracks, "features": visible.content.shape[1], "queries": len(asked), "models": models}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tracks", type=Path)
    parser.add_argument("--out", type=Path, default=Path("genre.json"))
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    figures_by_features = report(chosen.tracks, chosen.queries, chosen.seed)
    note = "with the genre among its features a model is asked for what it was told; the figures without are what the sound knows"
    result = {"circumstances": provenance(), "seed": chosen.seed, "k": K, "note": note, "figures": figures_by_features}
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures_by_features, indent=1))


if __name__ == "__main__":
    main()
