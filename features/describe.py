"""What `segue describe` shows of a dataset: counts, two distributions, and how many tracks each feature is known of.

Input: a Dataset. Output: figures by heading. Knows no file.
"""

from __future__ import annotations

import numpy as np

from features.dataset import Dataset
from features.schema import IS_CHALLENGE, TITLE

Figure = float | int | str


def figures(dataset: Dataset) -> dict[str, dict[str, Figure]]:
    """By heading, in the order they are read in."""
    held, catalog = dataset.interactions, dataset.catalog.table
    cells = held.num_playlists * held.num_tracks
    return {
        "counts": {
            "playlists": held.num_playlists,
            "challenge playlists": int(dataset.playlists[IS_CHALLENGE].sum()),
            "playlists with a title": int((dataset.playlists[TITLE] != "").sum()),
            "tracks": held.num_tracks,
            "tracks in no playlist": int((held.track_counts == 0).sum()),
            "artists": int(dataset.catalog.artists.max(initial=-1)) + 1,
            "interactions": len(held.tracks),
            "sparsity": 1 - len(held.tracks) / cells if cells else 1.0,
        },
        "tracks per playlist": _quantiles(held.lengths()),
        "playlists per track": _quantiles(held.track_counts),
        "known of the tracks": {column: 1 - catalog[column].null_count() / max(len(catalog), 1) for column in catalog.columns},
    }


def _quantiles(values: np.ndarray) -> dict[str, Figure]:
    if not len(values):
        return {"mean": 0.0}
    levels = {"min": 0, "5 %": 5, "25 %": 25, "median": 50, "75 %": 75, "95 %": 95, "99 %": 99, "max": 100}
    return {"mean": float(values.mean()), **{name: int(np.percentile(values, level)) for name, level in levels.items()}}
