"""The five reference systems, repeated: our figures beside the published ones, and whether their order repeats.

Input: a dataset of playlists (sessions, streaming), a dataset whose tracks have albums (factorization), a table of tracks
with audio features and a genre (content, contractive); a system without its input is left out. Output: one table, and one
JSON with, for each system, the figures, the pairs that stand the other way round, and the circumstances. Playlists are asked
as histories: some of their tracks are shown, the others are right. Genre and ablations can be taken from raw results that
are there.

    segue bench reference --playlists DATASET --albums DATASET --tracks TRACKS.parquet --out reference.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import contractive, genre, published
from benchmarks.published import Figures
from benchmarks.retrieval import ResolvedQuery, with_nodes
from engine.cli.bench import one_line_of
from engine.cli.console import show_rows
from engine.config import Config, read_config
from engine.evaluate import metrics
from engine.pipeline import rank_by_source
from engine.provenance import provenance
from engine.train.folds import training_data
from features.dataset import Dataset
from features.domain import MAX_ANSWER, Ints, Queries, Ranking, SegueError
from features.schema import IS_CHALLENGE
from features.split import HISTORIES, Split, hide
from stages.retrieve.index.exact import ExactIndex
from stages.retrieve.recipe import Recipe
from stages.training_data import TrainingData

K = 10
SMALL: Mapping[str, Any] = {
    "dim": 8,
    "factors": 8,
    "epochs": 1,
    "iterations": 3,
    "negatives": 64,
    "background": 64,
    "tracks_per_epoch": 256,
}
"""With --small: enough to see that everything runs, and no figure to be believed."""
SEARCHES = 100
"""Queries that Annoy is measured with."""
ANNOY_NODES = (3_000, 10_000, 30_000, 100_000)
SETTLED = 0.001
"""A sweep of ALS that lowers the loss by a smaller share is the last that was needed."""

System = dict[str, Any]


def small(recipe: Any) -> Any:
    return recipe.model_copy(update={name: min(most, getattr(recipe, name)) for name, most in SMALL.items() if hasattr(recipe, name)})


class Playlists:
    """What may be learned from a dataset, and the masked playlists that ask."""

    def __init__(self, path: Path, preset: str, chosen: argparse.Namespace) -> None:
        self.config: Config = read_config(Path(preset))
        dataset = Dataset.open(path)
        self.split: Split = hide(dataset.interactions, self._chosen(dataset, chosen.queries), self.config.seed, HISTORIES)
        self.visible: TrainingData = training_data(dataset, self.split.visible, self.config, serves=False)
        recipes = self.config.sources.recipes()
        self.recipes: dict[str, Recipe] = {name: small(one) for name, one in recipes.items()} if chosen.small else recipes

    def _chosen(self, dataset: Dataset, queries: int) -> Ints:
        complete = np.flatnonzero(~dataset.playlists[IS_CHALLENGE].to_numpy())
        return np.sort(np.random.default_rng(self.config.seed).permutation(complete)[:queries]).astype(np.int32)

    def ranking(self, source: str) -> tuple[Ranking, float]:
        """What the source of that name says, and the seconds its fit took."""
        start = time.perf_counter()
        trained = self.recipes[source].fit(self.visible)
        seconds = time.perf_counter() - start
        return rank_by_source(trained, self.split.queries, MAX_ANSWER), round(seconds, 1)

    def facts(self) -> dict[str, Any]:
        held = self.visible.interactions
        return {"playlists": held.num_playlists, "tracks": held.num_tracks, "queries": len(self.split.queries)}


def sessions(asked: Playlists) -> System:
    """MAP, coverage and personalization of each model alone."""
    figures: dict[str, dict[str, float]] = {name: {} for name in published.SESSIONS}
    intervals, seconds = {}, {}
    for ours, theirs in {"popularity": "popular", "regular": "regular", "hybrid": "hybrid", "variational": "variational"}.items():
        ranking, seconds[theirs] = asked.ranking(ours)
        mean = metrics.mean_with_interval(metrics.average_precision(metrics.judge(ranking, asked.split.qrels), K), 0)
        intervals[theirs] = [round(mean.low, 4), round(mean.high, 4)]
        figures["MAP@10"][theirs] = mean.value
        figures["coverage@10"][theirs] = metrics.coverage(ranking, asked.visible.num_tracks, K)
        figures["personalization@10"][theirs] = metrics.personalization(ranking, K)
    return {**asked.facts(), "MAP@10 within": intervals, "fit_seconds": seconds, "figures": figures}


def factorization(asked: Playlists) -> System:
    """Accuracy as R-precision: of as many tracks as are hidden, the share that was; theirs is not defined further."""
    ours = {"three_factors": "three factors", "artist": "same artist", "album": "same album", "factorization": "more factors"}
    accuracy, intervals, seconds = {}, {}, {}
    for name, theirs in {**ours, "popularity": "popular"}.items():
        ranking, seconds[theirs] = asked.ranking(name)
        mean = metrics.mean_with_interval(metrics.r_precision(metrics.judge(ranking, asked.split.qrels)), 0)
        accuracy[theirs], intervals[theirs] = mean.value, [round(mean.low, 4), round(mean.high, 4)]
    return {**asked.facts(), "accuracy within": intervals, "fit_seconds": seconds, "figures": {"accuracy": accuracy}}


def streaming(asked: Playlists) -> System:
    """ALS: the loss after every sweep, and what Annoy finds of what exact search finds, in which time."""
    losses: list[float] = []
    trained: Any = asked.recipes["als"].fit(asked.visible, lambda phase, done, figures: losses.append(figures["loss"]))
    figures = {"sweeps until ALS has converged": {"40 factors": float(needed(losses))}, **searches(trained, asked.split.queries)}
    return {**asked.facts(), "losses": losses, "figures": figures}


def searches(trained: Any, queries: Queries) -> dict[str, dict[str, float]]:
    """Of Annoy, by the nodes it inspects: the share of the exact best it finds, and the CPU time of a lone query."""
    annoy, part = trained.index, queries.part(0, SEARCHES)
    exact, asked = ExactIndex.build(annoy.vectors, annoy.tracks), ResolvedQuery(trained.query_vectors(part), part)
    found = {"exact": asked.measured(exact, exact, MAX_ANSWER)}
    found |= {f"{nodes} nodes": asked.measured(with_nodes(annoy, nodes), exact, MAX_ANSWER) for nodes in ANNOY_NODES}
    columns = {f"Annoy's recall@{MAX_ANSWER}": "recall", "ms a query": "ms a query of 1"}
    return {title: {index: row[name] for index, row in found.items()} for title, name in columns.items()}


def needed(losses: list[float]) -> int:
    """Sweeps until one more lowers the loss by less than SETTLED of it; all of them if that never comes."""
    gains = [(before - after) / before for before, after in pairwise(losses)]
    return next((sweep for sweep, gain in enumerate(gains, start=1) if gain < SETTLED), len(losses))


def content(raw: Mapping[str, Any]) -> System:
    """From the raw result of `benchmarks/genre.py`: with the genre among the features, as theirs had it."""
    measured = raw["figures"]["with genre among the features"]
    models = measured["models"]
    of = {"cosine": models["cosine, genre and audio alike"], "transformer": models["transformer"], "autoencoder": models["contractive"]}
    figures = {
        "same genre": {name: model["precision@10"] for name, model in of.items()},
        "MRR": {name: model["mrr"] for name, model in of.items()},
        "autoencoder's loss": {part: of["autoencoder"][f"{part}_loss"] for part in ("train", "validation")},
        "mean similarity": {"autoencoder": of["autoencoder"]["mean_similarity"]},
    }
    return {**_measured_with(raw), "tracks": measured["tracks"], "queries": measured["queries"], "figures": figures}


SETTINGS = {"batch_size": "batch", "learning_rate": "rate", "hidden_layers": "hidden layers", "dim": "units"}


def ablations(raw: Mapping[str, Any]) -> System:
    """From the raw result of `benchmarks/contractive.py`."""
    losses = {json.dumps(run["changes"], sort_keys=True): run["loss_percent"] for run in raw["figures"]}
    start = losses["{}"]
    figures: dict[str, dict[str, float]] = {}
    for setting, values in contractive.CHANGES.items():
        at_start = getattr(contractive.START, setting)
        changed = {value: losses[json.dumps({setting: value})] for value in values}
        figures[f"loss in %, {SETTINGS[setting]}"] = {str(value): loss for value, loss in sorted({**changed, at_start: start}.items())}
    best = losses[json.dumps(dict(contractive.RECOMMENDED), sort_keys=True)]
    figures["loss in %, recommended"] = {"start": start, "batch 4, rate 0.001": best}
    return {**_measured_with(raw), "figures": figures}


def _measured_with(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Of a raw result that was there before; this one's own where it is new."""
    return {"circumstances": raw["circumstances"]} if "circumstances" in raw else {}


SYSTEMS: Mapping[str, tuple[tuple[str, ...], Callable[[argparse.Namespace], System], Figures]] = {
    "sessions": (("playlists",), lambda chosen: sessions(Playlists(chosen.playlists, "sessions", chosen)), published.SESSIONS),
    "factorization": (
        ("albums",),
        lambda chosen: factorization(Playlists(chosen.albums, "factorization", chosen)),
        published.FACTORIZATION,
    ),
    "streaming": (("playlists",), lambda chosen: streaming(Playlists(chosen.playlists, "streaming", chosen)), published.STREAMING),
    "content": (("genre", "tracks"), lambda chosen: content(_genre(chosen)), published.CONTENT),
    "contractive": (("contractive", "tracks"), lambda chosen: ablations(_ablations(chosen)), published.CONTRACTIVE),
}
"""Each system by name: the arguments one of which it needs, how it is measured, and what was published."""


def rows(systems: Mapping[str, System]) -> list[list[str]]:
    """Of the table: system, figure, `ours (theirs)` of each, whether the order repeats."""
    return [
        [name, figure, _beside(ours, system["published"].get(figure, {})), _verdict(system["turned"].get(figure))]
        for name, system in systems.items()
        for figure, ours in system["figures"].items()
    ]


def _beside(ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    return ", ".join(f"{of} {value:.4g}" + (f" ({theirs[of]:.4g})" if of in theirs else "") for of, value in ours.items())


def _verdict(turned: list[str] | None) -> str:
    return "" if turned is None else f"not {', '.join(turned)}" if turned else "yes"


def main() -> None:
    chosen = _arguments().parse_args()
    with one_line_of("reference"):
        for name in wanted(chosen):
            keep(chosen.out, name, measure(name, chosen))
    show_rows("here (published)", ["system", "figure", "of each", "order repeats"], rows(kept(chosen.out)))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--playlists", type=Path, metavar="DATASET", help="for sessions and streaming")
    parser.add_argument("--albums", type=Path, metavar="DATASET", help="for factorization: its tracks have albums")
    parser.add_argument("--tracks", type=Path, metavar="FILE", help="for content and contractive: audio features and genres")
    parser.add_argument("--genre", type=Path, metavar="JSON", help="the result of `segue bench genre`, instead of measuring")
    parser.add_argument("--contractive", type=Path, metavar="JSON", help="the result of `segue bench contractive`, instead of measuring")
    parser.add_argument("--only", choices=list(SYSTEMS), nargs="+", help="of the systems that have their input")
    parser.add_argument("--queries", type=int, default=1_000, help="playlists, and tracks, that ask")
    parser.add_argument("--sample", type=int, default=10_000, help="tracks of the ablations")
    parser.add_argument("--small", action="store_true", help="tiny models: only to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("reference.json"))
    return parser


def wanted(chosen: argparse.Namespace) -> list[str]:
    """The systems that have their input, of those asked for."""
    found = [name for name in chosen.only or SYSTEMS if any(getattr(chosen, flag) for flag in SYSTEMS[name][0])]
    if not found:
        raise SegueError("expected at least one of --playlists, --albums, --tracks, --genre and --contractive, found none that is of use")
    return found


def measure(name: str, chosen: argparse.Namespace) -> System:
    """With the published figures, per figure the pairs of theirs that ours turn round, and how it was measured."""
    _, make, theirs = SYSTEMS[name]
    system = make(chosen)
    compared = {"published": theirs, "turned": published.turned(theirs, system["figures"])}
    return {"circumstances": provenance(), "command": [Path(word).name for word in sys.argv[1:]], **system, **compared}


def keep(out: Path, name: str, system: System) -> None:
    """At once: a later one may fail. What the file says of other systems stays."""
    systems = {**kept(out), name: system}
    ordered = {name: systems[name] for name in SYSTEMS if name in systems}
    out.write_text(json.dumps({"systems": ordered}, indent=1) + "\n", encoding="utf-8")


def kept(out: Path) -> dict[str, System]:
    found: dict[str, System] = json.loads(out.read_text(encoding="utf-8"))["systems"] if out.exists() else {}
    return found


def _genre(chosen: argparse.Namespace) -> Mapping[str, Any]:
    if chosen.genre:
        return _raw(chosen.genre)
    recipes = {name: small(recipe) for name, recipe in genre.RECIPES.items()} if chosen.small else genre.RECIPES
    return {"figures": genre.report(chosen.tracks, chosen.queries, 0, recipes)}


def _ablations(chosen: argparse.Namespace) -> Mapping[str, Any]:
    if chosen.contractive:
        return _raw(chosen.contractive)
    inputs, _ = contractive.inputs_of(chosen.tracks, chosen.sample, 0)
    return {"figures": [contractive.measure(changes, inputs, 0) for changes in contractive.settings()]}


def _raw(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
