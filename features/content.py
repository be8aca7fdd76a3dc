"""Catalog -> content matrix: every track as a vector of numbers, whether anyone ever played it or not.

Input: the catalog, of which any part may be unknown, and the interactions (only to weigh an artist's tracks). Output: a
finite float32 matrix, one row per track_index, with a name for every column. The steps: scale the numeric features, one-hot
the categories, fill what is missing with the artist's mean (else the mean of all) and say so in an indicator column, and add
to each track its artist as principal components of the artists' mean vectors. What does not vary is left out, so a dataset
of bare ids has no column at all. Knows no model, no query and no held-out track.

Sources. Min-max scaling with one-hot key, and artist means reduced by PCA: the fifth of the systems in DESIGN.md. Robust
scaling by median and quartile range: Huber, Robust Statistics (1981). Indicator columns beside imputed values: Little and
Rubin, Statistical Analysis with Missing Data (2002). PCA by singular values: Jolliffe, Principal Component Analysis (2002).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from features.catalog import UNKNOWN, Catalog
from features.domain import Floats, Ints
from features.interactions import Interactions
from features.schema import NUMERIC_FEATURES

Doubles = npt.NDArray[np.float64]
Block = tuple[list[str], Floats]
"""Names and the (num_tracks, len(names)) values under them."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "audio": (
        *("danceability", "energy", "loudness", "speechiness", "acousticness", "instrumentalness", "liveness", "valence", "tempo"),
        *("key", "mode", "time_signature"),
    ),
    "duration": ("duration_ms",),
    "popularity": ("popularity",),
    "year": ("year",),
    "explicit": ("explicit",),
    "genre": ("genre",),
    "artist": ("artist",),
}
"""Features that come from one place, so they are known or missing together: one indicator column for each."""

YES_OR_NO = ("mode", "explicit")
ONE_HOT = ("key", "time_signature")
_MAX_VALUES = 12
_ROBUST_CLIP = 3.0
_VARIES = 1e-6


@dataclass(frozen=True)
class ContentMatrix:
    """What the tracks are, as numbers."""

    values: Floats
    """(num_tracks, num_features), finite; no feature when nothing is known."""
    names: tuple[str, ...]
    """(num_features,) such as `energy`, `key=0`, `genre=rock`, `missing audio`, `artist 3`; `feature_of` takes them apart."""


def feature_of(column: str) -> str:
    """The feature that a column is part of: `key=0` of key, `artist 3` of artist, `missing audio` of missing, `energy` of itself."""
    return re.split("[= ]", column, maxsplit=1)[0]


def group_of(column: str) -> str:
    """The group in GROUPS that a column's feature is in; a column of no group, such as `missing audio`, is in its feature's."""
    feature = feature_of(column)
    return next((group for group, features in GROUPS.items() if feature in features), feature)


class ContentRecipe(BaseModel):
    """How to make a content matrix."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    scaling: Literal["min-max", "robust"] = "robust"
    """`min-max` to 0…1, as a sigmoid output needs it; `robust` to medians of 0, clipped at ±3, so that cosines tell tracks apart."""
    artist_components: int = Field(16, ge=0)
    """Principal components of the artists' mean vectors; 0 leaves the artists out."""
    genres: int = Field(50, ge=0)
    """One column for each of so many most frequent genres."""

    def fit(self, catalog: Catalog, interactions: Interactions) -> ContentMatrix:
        """One row per track of `catalog`; deterministic. Costs some seconds and twice the matrix in memory for 2 million tracks."""
        artists = catalog.artists
        blocks = [*self._scales(catalog.table, artists), *_categories(catalog.table), self._genre_columns(catalog.table)]
        known = _varying(_joined(blocks, len(catalog)))
        weights = 1.0 + interactions.track_counts.astype(np.float64)
        added = [*_indicators(catalog.table), self._artist_columns(known[1], artists, weights)]
        names, values = _joined([known, _varying(_joined(added, len(catalog)))], len(catalog))
        return ContentMatrix(values, tuple(names))

    def _scales(self, table: pl.DataFrame, artists: Ints) -> Iterator[Block]:
        """The numeric features and the yes-or-no ones: filled, scaled, a column each."""
        for name in (*NUMERIC_FEATURES, *YES_OR_NO):
            values = table[name].to_numpy().astype(np.float64)
            values[~(np.isin(values, (0, 1)) if name in YES_OR_NO else np.isfinite(values))] = np.nan
            if not np.isnan(values).all():
                scaled = values if name in YES_OR_NO else self._scaled(values)
                yield [name], _filled(scaled, artists).astype(np.float32)[:, None]

    def _scaled(self, values: Doubles) -> Doubles:
        return _min_max(values) if self.scaling == "min-max" else _robust(values)

    def _genre_columns(self, table: pl.DataFrame) -> Block:
        return _one_hot(table["genre"], "genre", self.genres)

    def _artist_columns(self, values: Floats, artists: Ints, weights: Doubles) -> Block:
        """(num_tracks, artist_components): what an artist's tracks are like, weighted by how many playlists hold them; 0 for no artist."""
        num_artists = int(artists.max(initial=UNKNOWN)) + 1
        count = min(self.artist_components, values.shape[1], num_artists - 1)
        if count <= 0:
            return [], np.empty((len(artists), 0), np.float32)
        components = _principal_components(_artist_means(values, artists, weights, num_artists), count)
        nobody = np.zeros((1, count), np.float32)
        return [f"artist {i}" for i in range(count)], np.concatenate([components, nobody])[artists]


def _min_max(values: Doubles) -> Doubles:
    low, high = np.nanmin(values), np.nanmax(values)
    return (values - low) / (high - low) if high > low else np.where(np.isnan(values), np.nan, 0.0)


def _robust(values: Doubles) -> Doubles:
    """(x - median) / (quartile range / 1.349), which is the standard deviation where the values are normal."""
    low, median, high = np.nanpercentile(values, [25, 50, 75])
    spread = (high - low) / 1.349 if high > low else float(np.nanstd(values))
    centred = values - median
    scaled: Doubles = np.clip(centred / (spread or 1.0), -_ROBUST_CLIP, _ROBUST_CLIP)
    return scaled


def _filled(values: Doubles, artists: Ints) -> Doubles:
    """A missing value becomes the mean of its artist's known ones, else the mean of all."""
    known = ~np.isnan(values)
    named = known & (artists != UNKNOWN)
    slots = int(artists.max(initial=UNKNOWN)) + 2
    sums = np.bincount(artists[named], values[named], slots)
    counts = np.bincount(artists[named], minlength=slots)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), values[known].mean())
    return np.where(known, values, means[artists])


def _categories(table: pl.DataFrame) -> Iterator[Block]:
    """A negative value is how Spotify says that it found none; one that is no int32 says nothing."""
    for name in ONE_HOT:
        value = pl.col(name)
        found = table.select(pl.when(value.is_finite() & (value >= 0)).then(value).cast(pl.Int32, strict=False).cast(pl.String))[name]
        yield _one_hot(found, name, _MAX_VALUES)


def _one_hot(values: pl.Series, name: str, at_most: int) -> Block:
    """A column for each of the most frequent values, ties by name; a missing value is 0 in all of them."""
    counts = values.drop_nulls().to_frame("value").group_by("value").len().sort("len", "value", descending=[True, False])
    kept = counts["value"].head(at_most).to_list()
    column = {value: i for i, value in enumerate(kept)}
    of_row = values.replace_strict(column, default=-1, return_dtype=pl.Int32).fill_null(-1).to_numpy() if kept else np.full(len(values), -1)
    matrix = np.zeros((len(values), len(kept)), np.float32)
    rows = np.flatnonzero(of_row >= 0)
    matrix[rows, of_row[rows]] = 1
    return [f"{name}={value}" for value in kept], matrix


def _indicators(table: pl.DataFrame) -> Iterator[Block]:
    """1 where nothing of a group is known of the track."""
    for group, columns in GROUPS.items():
        missing = table.select(pl.all_horizontal(pl.col(column).is_null() for column in columns).alias(group))[group]
        yield [f"missing {group}"], missing.to_numpy().astype(np.float32)[:, None]


def _artist_means(values: Floats, artists: Ints, weights: Doubles, num_artists: int) -> Doubles:
    """(num_artists, num_features) weighted means."""
    named = artists != UNKNOWN
    owner, weight = artists[named], weights[named]
    total = np.bincount(owner, weight, num_artists)
    means = np.empty((num_artists, values.shape[1]))
    for i, column in enumerate(values.T):
        means[:, i] = np.bincount(owner, weight * column[named], num_artists) / total
    return means


def _principal_components(means: Doubles, count: int) -> Floats:
    """(num_artists, count) by singular values of the covariance; each axis points where its largest loading is positive."""
    centred = means - means.mean(axis=0)
    axes = np.linalg.svd(centred.T @ centred / len(centred))[0][:, :count]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(count)])
    components: Floats = (centred @ (axes * signs)).astype(np.float32)
    return components


def _joined(blocks: list[Block], num_tracks: int) -> Block:
    names = [name for block, _ in blocks for name in block]
    return names, np.concatenate([np.empty((num_tracks, 0), np.float32), *(values for _, values in blocks)], axis=1)


def _varying(block: Block) -> Block:
    """Without the columns that say the same of every track."""
    names, values = block
    if not len(values):
        return [], values[:, :0]
    kept = np.flatnonzero(np.ptp(values, axis=0) > _VARIES)
    return [names[i] for i in kept], values[:, kept]
