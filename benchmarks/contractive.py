"""The contractive autoencoder's ablations: what batch, rate, depth and width do to its loss after ten epochs.

Input: a parquet or CSV table of tracks with audio features, of which a random sample is taken. Output: one JSON with the
final loss in percent of every setting, and the circumstances. Features and settings are those of the reference (DESIGN.md,
system 5): audio features, duration, popularity and year from 0 to 1, mode, one-hot key; a start of batch 10, rate 0.0001 and
one hidden layer of 10, from which one thing is changed at a time; last, the setting it recommends.

    python -m benchmarks.contractive TRACKS.parquet --out contractive.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.provenance import provenance
from features.catalog import Catalog
from features.content import ContentRecipe
from features.interactions import Interactions
from features.readers import read_tracks
from features.schema import CATALOG
from stages.retrieve.content.recipes import ContractiveRecipe
from stages.retrieve.content.training.contractive import to_unit_range, train

START = ContractiveRecipe(dim=10, hidden_layers=1, batch_size=10, learning_rate=0.0001, epochs=10)
CHANGES: Mapping[str, tuple[float, ...]] = {
    "batch_size": (4, 20),
    "learning_rate": (0.00001, 0.001, 0.01, 0.1),
    "hidden_layers": (3, 5),
    "dim": (4, 7, 15, 18, 21),
}
RECOMMENDED: Mapping[str, float] = {"batch_size": 4, "learning_rate": 0.001}


def settings() -> list[dict[str, float]]:
    """What each run changes of START."""
    one_at_a_time = [{name: value} for name, values in CHANGES.items() for value in values]
    return [{}, *one_at_a_time, dict(RECOMMENDED)]


def inputs_of(tracks: Path, sample: int, seed: int) -> tuple[torch.Tensor, tuple[str, ...]]:
    """(sample, num_features) in 0...1, and the features' names; genres and artists left out."""
    known = read_tracks(tracks)
    table = known.sample(min(sample, known.height), seed=seed).select(*CATALOG)
    nobody = Interactions(np.empty(0, np.int32), np.empty(0, np.float32), np.zeros(1, np.int64), (), table.height)
    content = ContentRecipe(scaling="min-max", artist_components=0, genres=0).fit(Catalog(table), nobody)
    kept = [i for i, name in enumerate(content.names) if not name.startswith("missing")]
    return to_unit_range(content.values[:, kept]), tuple(content.names[i] for i in kept)


def measure(changes: Mapping[str, float], inputs: torch.Tensor, seed: int) -> dict[str, Any]:
    """The loss after the last epoch, the penalty included, and of that the reconstruction's share."""
    recipe = ContractiveRecipe.model_validate(START.model_dump() | dict(changes))
    start = time.perf_counter()
    model = train(recipe, inputs, seed)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        whole, reconstruction = (float(model.loss(inputs, weight)) / len(inputs) for weight in (recipe.jacobian_weight, 0.0))
    percent = {"loss_percent": round(100 * whole, 4), "reconstruction_percent": round(100 * reconstruction, 4)}
    return {"changes": dict(changes), **percent, "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tracks", type=Path)
    parser.add_argument("--out", type=Path, default=Path("contractive.json"))
    parser.add_argument("--sample", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    inputs, names = inputs_of(chosen.tracks, chosen.sample, chosen.seed)
    figures = []
    for changes in settings():
        figures.append(measure(changes, inputs, chosen.seed))
        print(json.dumps(figures[-1]), flush=True)
    start = START.model_dump(exclude={"index"})
    facts = {"tracks": len(inputs), "features": list(names), "seed": chosen.seed, "start": start}
    result = {"circumstances": provenance(), **facts, "figures": figures}
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
