"""Playlists to continue, and what was hidden from them, in the official layout of the RecSys Challenge 2018.

Input: a challenge file (a slice whose playlists hold their seeds only) and `truth.parquet` (`pid, category, track_uri`),
with the vocabulary. Output: Queries and Qrels, with a count of what the vocabulary does not know. Knows no model, no
metric and nothing of the dataset but its vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.domain import NO_TRACK, Ints, Offsets, Qrels, Queries, SegueError
from features.ragged import Ragged, offsets_of
from features.readers import Piece
from features.schema import PLAYLIST_ID, PLAYLIST_INDEX, TITLE, TRACK_ID, TRACK_URI, conform
from features.vocabulary import Vocabulary, bare

NO_CATEGORY = -1
"""The category of a playlist the truth gives none."""
TRUTH: Mapping[str, pl.DataType] = {"pid": pl.String(), "category": pl.Int32(), TRACK_URI: pl.String()}


@dataclass(frozen=True)
class Challenge:
    """`q` playlists to continue; row i of everything belongs to `pids[i]`."""

    pids: tuple[str, ...]
    queries: Queries
    """Seeds in playlist order without repeats; those the vocabulary does not know are dropped."""
    unknown_seeds: Offsets
    """(q,) how many distinct seeds were dropped because the vocabulary does not know them."""


@dataclass(frozen=True)
class Truth:
    """What was hidden from `q` playlists."""

    qrels: Qrels
    """Distinct tracks. One the vocabulary does not know has an id below NO_TRACK, its own in the whole file: it counts
    as relevant and nothing can hit it."""
    categories: Ints
    """(q,) as the file says, NO_CATEGORY where it says nothing. Only the truth knows: the queries of two categories can look alike."""


def read_challenge(path: Path, vocabulary: Vocabulary) -> Challenge:
    """The playlists of a challenge file in its order; a file of another layout, or a pid twice, is a SegueError."""
    if not path.is_file():
        raise SegueError(f"{path}: expected a challenge file, found no file of that name. Name the playlists to continue.")
    asked = Piece(path).read()
    pids = tuple(asked.playlists[PLAYLIST_ID].to_list())
    if len(set(pids)) != len(pids):
        raise SegueError(f"{path}: expected every pid once, found {len(pids)} playlists with {len(set(pids))} pids. Remove the repeats.")
    seeds = asked.entries.select(PLAYLIST_INDEX, bare(pl.col(TRACK_ID))).unique(maintain_order=True)
    tracks, rows = vocabulary.index_of(seeds[TRACK_ID].to_list()), seeds[PLAYLIST_INDEX].to_numpy().astype(np.int64)
    known = tracks != NO_TRACK
    queries = Queries(
        seeds=Ragged(tracks[known], offsets_of(np.bincount(rows[known], minlength=len(pids)))),
        titles=tuple(asked.playlists[TITLE].to_list()),
        exclude=Ragged.of([()] * len(pids)),
    )
    return Challenge(pids, queries, np.bincount(rows[~known], minlength=len(pids)))


def read_truth(path: Path, pids: Sequence[str], vocabulary: Vocabulary) -> Truth:
    """What was hidden from `pids`, in their order; a pid the file does not name has nothing relevant.

    A truth that names other playlists belongs to another challenge and is a SegueError.
    """
    table = _truth_table(path)
    rows = _rows(path, table["pid"], pids)
    categories = np.full(len(pids), NO_CATEGORY, np.int32)
    categories[rows] = table["category"].to_numpy()
    tracks = _with_unknown(table[TRACK_URI].to_list(), vocabulary)
    relevant = Ragged(tracks[np.argsort(rows, kind="stable")], offsets_of(np.bincount(rows, minlength=len(pids))))
    return Truth(Qrels(relevant), categories)


def _truth_table(path: Path) -> pl.DataFrame:
    """TRUTH without repeats."""
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SegueError(f"{path}: expected a truth table in parquet, found {error}. Name the file of hidden tracks.") from error
    if "category" not in table.columns:
        table = table.with_columns(category=NO_CATEGORY)
    table = conform(table, TRUTH, str(path)).with_columns(pl.col("category").fill_null(NO_CATEGORY), bare(pl.col(TRACK_URI)))
    missing = sum(table["pid", TRACK_URI].null_count().row(0))
    if missing:
        raise SegueError(f"{path}: expected a pid and a track_uri in each of {table.height} rows, found {missing} empty. Remove them.")
    return table.unique(["pid", TRACK_URI], keep="first", maintain_order=True)


def _rows(path: Path, found: pl.Series, pids: Sequence[str]) -> Offsets:
    """(n,) which of `pids` each row of the truth belongs to."""
    row_of = {pid: row for row, pid in enumerate(pids)}
    others = [pid for pid in found.unique(maintain_order=True).to_list() if pid not in row_of]
    if others:
        raise SegueError(
            f"{path}: expected only the {len(row_of)} playlists of the challenge, found {len(others)} others, {others[0]} among them. "
            "The truth belongs to another challenge. Name the two files that belong together."
        )
    return np.array([row_of[pid] for pid in found.to_list()], np.int64)


def _with_unknown(track_ids: Sequence[str], vocabulary: Vocabulary) -> Ints:
    """(n,) track indices; below NO_TRACK one number per distinct track that is unknown."""
    tracks = vocabulary.index_of(track_ids)
    unknown = np.flatnonzero(tracks == NO_TRACK)
    codes = np.unique(np.array(track_ids, np.str_)[unknown], return_inverse=True)[1]
    tracks[unknown] = NO_TRACK - 1 - codes.astype(np.int32)
    return tracks
