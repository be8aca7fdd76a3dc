"""The audio features of a synthetic world: a genre has its sound, an artist varies it, a track varies that.

Input: a World and a seed. Output: a table of two thirds of the tracks, with gaps.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from features.synthetic.world import GENRES, MOODS, Random, World


def audio_features(world: World, seed: int) -> pl.DataFrame:
    """Two thirds of the tracks, in any order; a genre has its sound, an artist varies it, a track varies that."""
    random = np.random.default_rng([seed, 3])
    tracks = np.flatnonzero(random.random(len(world)) < 0.65)
    names = ("danceability", "energy", "speechiness", "acousticness", "instrumentalness", "liveness", "valence")
    of_genre = random.random((len(GENRES), len(names)))
    of_artist = random.normal(0, 0.08, (world.artist[-1] + 1, len(names)))
    of_track = random.normal(0, 0.08, (len(world), len(names)))
    genre = world.scene[tracks] // len(MOODS)
    values = np.clip(of_genre[genre] + of_artist[world.artist[tracks]] + of_track[tracks], 0, 1)
    energy = values[:, names.index("energy")]
    rank = np.argsort(np.argsort(-world.weight))[tracks]
    table = pl.DataFrame({"track_uri": world.tracks["uri"].gather(tracks)}).with_columns(
        *(pl.Series(name, values[:, i], pl.Float32) for i, name in enumerate(names)),
        pl.Series("loudness", -22 + 18 * energy + random.normal(0, 1, len(tracks)), pl.Float32),
        pl.Series("tempo", 80 + 70 * energy + random.normal(0, 15, len(tracks)), pl.Float32),
        pl.Series("key", random.integers(12, size=len(tracks)), pl.Float32),
        pl.Series("mode", random.random(len(tracks)) < 0.6, pl.Float32, strict=False),
        pl.Series("time_signature", random.choice([3, 4, 5], len(tracks), p=[0.08, 0.9, 0.02]), pl.Float32),
        pl.Series("genre", GENRES).gather(genre),
        pl.Series("popularity", np.round(100 * (1 - rank / len(world))), pl.Float32),
        pl.Series("year", 2017 - random.geometric(0.08, len(tracks)).clip(1, 60), pl.Float32),
    )
    gaps = (("genre", 0.2), ("popularity", 0.3), ("tempo", 0.02))
    return table.with_columns(_with_gaps(name, share, random, len(tracks)) for name, share in gaps)


def _with_gaps(name: str, share: float, random: Random, rows: int) -> pl.Expr:
    return pl.when(pl.Series(random.random(rows) >= share)).then(pl.col(name)).alias(name)
