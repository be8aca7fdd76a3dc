"""The challenge of a synthetic world: playlists of which a part is visible, and the truth about the rest.

Input: a World. Output: `challenge.json` and `truth.parquet`, in the layout of the RecSys Challenge 2018.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from features.synthetic.playlists import LONGEST, draw_lengths, draw_playlists
from features.synthetic.slices import entries, lines
from features.synthetic.world import Indices, Random, World


class Shape(NamedTuple):
    """What a request shows of its playlist."""

    visible: int
    titled: bool
    at_random: bool


CATEGORIES = (
    *(Shape(0, True, False), Shape(1, True, False), Shape(5, True, False), Shape(5, False, False), Shape(10, True, False)),
    *(Shape(10, False, False), Shape(25, True, False), Shape(25, True, True), Shape(100, True, False), Shape(100, True, True)),
)
"""The request shapes of the RecSys Challenge 2018, by category."""
_HELD_OUT = 5


def write_challenge(folder: Path, world: World, first_pid: int, count: int, seed: int) -> None:
    """Playlist i of the challenge is of category i mod 10, and of the pids after those of the zip."""
    random = np.random.default_rng([seed, 2])
    visible = np.array([shape.visible for shape in CATEGORIES])[np.arange(count) % len(CATEGORIES)]
    made = draw_playlists(world, np.maximum(draw_lengths(count, random), np.minimum(visible + _HELD_OUT, LONGEST)), random)
    asked, hidden = [], []
    for i in range(count):
        tracks, category = made.tracks.row(i), i % len(CATEGORIES)
        places = _shown(len(tracks), category, random)
        hidden.append(np.delete(tracks, places))
        placed = zip(places.tolist(), world.described(tracks[places]), strict=True)
        asked.append(_question(first_pid + i, made.titles[i] or "mix", category, list(placed), len(hidden[-1])))
    text = f'{{"name":"synthetic","version":"v1","playlists":[\n{lines(iter(asked))}\n]}}\n'
    (folder / "challenge.json").write_text(text, encoding="utf-8")
    _truth(world, first_pid, hidden).write_parquet(folder / "truth.parquet")


def _truth(world: World, first_pid: int, hidden: list[Indices]) -> pl.DataFrame:
    """One row per hidden track of each challenge playlist."""
    of = np.repeat(np.arange(len(hidden)), [len(tracks) for tracks in hidden])
    named = world.tracks.select("uri", "artist_name")[np.concatenate(hidden)]
    columns = {"pid": first_pid + of, "category": of % len(CATEGORIES), "track_uri": named["uri"], "artist_name": named["artist_name"]}
    return pl.DataFrame(columns)


def _shown(length: int, category: int, random: Random) -> Indices:
    """The places that are visible, in order; a short playlist shows less, so that something is hidden."""
    count = min(CATEGORIES[category].visible, max(length - _HELD_OUT, length // 2))
    return np.sort(random.permutation(length)[:count]) if CATEGORIES[category].at_random else np.arange(count)


def _question(pid: int, title: str, category: int, placed: list[tuple[int, str]], hidden: int) -> str:
    name = f'"name":{json.dumps(title)},' if CATEGORIES[category].titled else ""
    counts = f'"num_tracks":{len(placed) + hidden},"num_samples":{len(placed)},"num_holdouts":{hidden}'
    return f'{{{name}"pid":{pid},{counts},"tracks":{entries(placed)}}}'
