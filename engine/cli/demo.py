"""`segue demo`: the whole job on a small synthetic world, from files to recommendations fetched over HTTP.

Input: nothing. Output: what each step made, on the terminal; the files only if a folder to keep them in is named.
Every step is the function behind the command of the same name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from engine.cli.console import show, show_rows, shown_progress
from engine.cli.describe import show_report
from engine.config import Config, SourcesConfig
from engine.evaluate.report import evaluate
from engine.model import load_model
from engine.serve import cluster
from engine.serve.ports import free_port
from engine.serve.service import running_service
from features.ingest import ingest
from features.synthetic import write_world
from stages.rank.lambdamart import LambdaMartRecipe
from stages.retrieve.als.model import AlsRecipe
from stages.retrieve.autoencoder.model import AutoencoderRecipe

PLAYLISTS, TRACKS, SEED = 3_000, 6_000, 0
REQUEST_TIMEOUT_S = 30.0
SMALL = Config(
    alternatives={},
    sources=SourcesConfig(als=AlsRecipe(factors=64, iterations=8), autoencoder=AutoencoderRecipe(dim=64)),
    ranker=LambdaMartRecipe(num_iterations=100),
)
"""The default settings, made small enough for a small world."""

Say = Callable[[str], None]


@cluster.environment()  # before Ray is imported
def demo(folder: Path, say: Say) -> None:
    """Does it all below `folder`; servers and workers it starts are stopped before it returns."""
    world, dataset, artifact = folder / "world", folder / "dataset", folder / "artifact"
    say(f"\n1. A world: {PLAYLISTS} playlists over {TRACKS} tracks, written to {world}")
    with shown_progress() as progress:
        write_world(world, PLAYLISTS, TRACKS, SEED, progress)
    say("\n2. Ingest")
    with shown_progress() as progress:
        summary = ingest([world / "mpd.zip"], dataset, world / "audio_features.parquet", [world / "challenge.json"], progress)
    show("ingested", {name.replace("_", " "): value for name, value in vars(summary).items()})
    say("\n3. Train both stages with Ray Train")
    _train(dataset, artifact)
    say("\n4. Evaluate on playlists whose end was hidden")
    _evaluate(artifact, world)
    say("\n5. Serve with Ray Serve, which takes half a minute to start, and ask over HTTP")
    with running_service(artifact, "composed", free_port()) as url:
        _ask(url, world / "challenge.json", say)
    say("\nDone. The same with your own playlists: see README.md")


def _train(dataset: Path, artifact: Path) -> None:
    from engine.train.launch import train

    with shown_progress() as progress:
        manifest = train(dataset, artifact, SMALL, workers=1, report=progress)
    show("artifact", {"version": manifest.version, "sources": ", ".join(manifest.sources), "pair features": len(manifest.feature_names)})


def _evaluate(artifact: Path, world: Path) -> None:
    model = load_model(artifact)
    with shown_progress() as progress:
        result = evaluate(model, world / "challenge.json", world / "truth.parquet", progress)
    show_report(result, model.artifact.manifest)


def _ask(url: str, challenge: Path, say: Say) -> None:
    """Continues the first playlist with a title and five seed tracks."""
    playlists: list[dict[str, Any]] = json.loads(challenge.read_text(encoding="utf-8"))["playlists"]
    asked = next(playlist for playlist in playlists if playlist.get("name") and len(playlist["tracks"]) == 5)
    seeds = asked["tracks"]
    say(f"POST {url}/v1/recommend: the playlist {asked['name']!r} with {', '.join(_named(track) for track in seeds)}")
    body = {"tracks": [track["track_uri"] for track in seeds], "title": asked["name"], "k": 10}
    response = httpx.post(f"{url}/v1/recommend", json=body, timeout=REQUEST_TIMEOUT_S)
    response.raise_for_status()
    rows = [
        [place, track["title"], track["artist"], _sources(track["sources"])] for place, track in enumerate(response.json()["tracks"], 1)
    ]
    show_rows("what comes next", ["rank", "title", "artist", "proposed by (at rank)"], rows)


def _named(track: dict[str, Any]) -> str:
    return f"{track['track_name']} ({track['artist_name']})"


def _sources(ranks: dict[str, int]) -> str:
    return ", ".join(f"{source} {rank}" for source, rank in ranks.items())
