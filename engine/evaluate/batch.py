"""Recommendations for many at once, written to a file: a challenge's submission, or a table for every playlist of a dataset.

Input: a model and a challenge file or a dataset. Output: the file, whole or not at all. Knows no HTTP and no training.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from engine.evaluate.submission import TRACKS_PER_PLAYLIST, write_submission
from engine.model import Model
from engine.pipeline import alone, batches
from features.atomic import written_whole
from features.challenge import read_challenge
from features.dataset import Dataset
from features.domain import NO_TRACK, Ints, Queries, Query, Ranking, SegueError
from features.progress import Progress
from features.schema import PLAYLIST_ID, TRACK_ID
from features.vocabulary import URI_PREFIX

BATCH = 64
"""Playlists asked at once."""


def continue_challenge(model: Model, challenge: Path, out: Path, team: str, contact: str, progress: Progress) -> int:
    """Writes the official submission for `challenge`; returns how many seed tracks the model does not know."""
    vocabulary = model.names.vocabulary
    if len(vocabulary) < TRACKS_PER_PLAYLIST:
        raise SegueError(
            f"{out}: expected a model of at least {TRACKS_PER_PLAYLIST} tracks, found {len(vocabulary)}. A submission needs 500 a playlist"
        )
    asked = read_challenge(challenge, vocabulary)
    seeds = [_uris(vocabulary.ids(asked.queries.seeds_of(i))) for i in range(len(asked.queries))]
    rankings = _ranked(model, asked.queries, TRACKS_PER_PLAYLIST, None, progress)
    rows = (_uris(vocabulary.ids(row)) for ranking in rankings for row in ranking.tracks)
    write_submission(out, asked.pids, rows, team, contact, seeds=seeds)
    return int(asked.unknown_seeds.sum())


def _uris(track_ids: list[str]) -> list[str]:
    """The official form, whichever the dataset came in."""
    return [track_id if track_id.startswith(URI_PREFIX) else URI_PREFIX + track_id for track_id in track_ids]


def continue_playlists(model: Model, dataset: Dataset, out: Path, k: int, source: str | None, progress: Progress) -> int:
    """Writes `playlist_id, rank, track_id, score` for every playlist of `dataset`, best first; returns the rows written.

    `source` alone answers where it is named. Tracks the model does not know are no seeds; they count for nothing.
    """
    if source is not None and source not in model.pipeline.sources:
        raise SegueError(f"--source: expected one of {', '.join(model.pipeline.sources)}, found {source}")
    known = model.names.vocabulary.index_of(dataset.vocabulary.track_ids.to_list())
    ids, rows = dataset.playlists[PLAYLIST_ID], 0
    tables: list[pl.DataFrame] = []
    for ranking in _ranked(model, _playlists(dataset, known), k, source, progress):
        tables.append(_table(model, ranking, ids[rows : rows + len(ranking.tracks)]))
        rows += len(ranking.tracks)
    result = pl.concat(tables)
    with written_whole(out) as scratch:
        result.write_parquet(scratch)
    return result.height


def _playlists(dataset: Dataset, known: Ints) -> Queries:
    held = dataset.interactions
    return Queries.of(Query(_seeds(known[held.tracks_of(i)]), held.titles[i]) for i in range(held.num_playlists))


def _seeds(tracks: Ints) -> Ints:
    known: Ints = tracks[tracks != NO_TRACK]
    return known


def _ranked(model: Model, queries: Queries, k: int, source: str | None, progress: Progress) -> Iterator[Ranking]:
    done = 0
    for batch in batches(queries, BATCH):
        yield alone(model.pipeline.sources[source], batch, k) if source else model.pipeline.recommend(batch, k).ranking
        done += len(batch)
        progress("recommend", done / len(queries))


def _table(model: Model, ranking: Ranking, playlist_ids: pl.Series) -> pl.DataFrame:
    rows, places = np.nonzero(ranking.tracks != NO_TRACK)
    return pl.DataFrame(
        {
            PLAYLIST_ID: playlist_ids.gather(rows),
            "rank": (places + 1).astype(np.int32),
            TRACK_ID: model.names.vocabulary.ids(ranking.tracks[rows, places]),
            "score": ranking.scores[rows, places],
        }
    )
