"""What an answer may hold: filters on the catalog as one yes or no a track, and the popular order to fill up with.

Input: the catalog and Filters. Output: a mask over all tracks, applied between the two stages: proposals that are not
allowed leave a gap, so that the ranks of the others mean what they meant in training. Knows no stage and no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.answer.api import Filters, Range
from engine.pipeline import Answer
from features.catalog import Catalog
from features.domain import NO_TRACK, Ints, Query, Ranking, Retrieved
from features.schema import ARTIST

Mask = npt.NDArray[np.bool_]

POPULARITY = "popularity"
"""The source a track that fills an answer up is said to come from."""


def allowed(catalog: Catalog, filters: Filters) -> Mask:
    """(num_tracks,) whether all that the filters ask is known to hold of the track."""
    conditions = list(_conditions(filters))
    if not conditions:
        return np.ones(len(catalog), bool)
    return catalog.table.select(pl.all_horizontal(conditions).fill_null(False).alias("allowed"))["allowed"].to_numpy()


def _conditions(filters: Filters) -> list[pl.Expr]:
    conditions = []
    for name in type(filters).model_fields:
        wanted = getattr(filters, name)
        if isinstance(wanted, Range):
            conditions += _within(name, wanted)
        elif isinstance(wanted, bool):
            conditions.append(pl.col(name) == (1.0 if wanted else 0.0))
        elif isinstance(wanted, list):
            column = pl.col(ARTIST if name == "artist" else name)
            conditions.append(column.str.to_lowercase().is_in([one.lower() for one in wanted]))
    return conditions


def _within(name: str, wanted: Range) -> list[pl.Expr]:
    column, conditions = pl.col(name), [pl.col(name).is_not_null()]
    if wanted.min is not None:
        conditions.append(column >= wanted.min)
    if wanted.max is not None:
        conditions.append(column <= wanted.max)
    return conditions


def first(result: Retrieved, counts: Sequence[int]) -> Retrieved:
    """The first `counts` proposals for each query, as if it had been asked for so many."""
    width = result.tracks.shape[1]
    if min(counts) >= width:
        return result
    beyond = np.arange(width) >= np.array(counts)[:, None]
    return replace(result, tracks=np.where(beyond, np.int32(NO_TRACK), result.tracks))


def keep(retrieved: Mapping[str, Retrieved], masks: Sequence[Mask | None]) -> Mapping[str, Retrieved]:
    """The proposals each query's mask allows; None allows all."""
    if all(mask is None for mask in masks):
        return retrieved
    return {source: replace(result, tracks=_kept(result.tracks, masks)) for source, result in retrieved.items()}


def _kept(tracks: Ints, masks: Sequence[Mask | None]) -> Ints:
    kept = tracks.copy()
    for row, mask in zip(kept, masks, strict=True):
        if mask is not None:
            row[(row != NO_TRACK) & ~mask[row]] = NO_TRACK
    return kept


def fill(answer: Answer, query: Query, mask: Mask | None, num_tracks: int) -> Answer:
    """`answer` (one query) with the popular order of the allowed tracks in its empty places, as far as there are any.

    Track indices are that order: the vocabulary holds the most held track first. Their scores go down from the last.
    """
    tracks, scores = answer.ranking.tracks[0], answer.ranking.scores[0]
    count = int((tracks != NO_TRACK).sum())
    if count == len(tracks):
        return answer
    more = _popular(query, tracks[:count], mask, num_tracks)[: len(tracks) - count]
    last = float(scores[count - 1]) if count else 0.0
    filled = Ranking(tracks[None].copy(), scores[None].copy())
    filled.tracks[0, count : count + len(more)] = more
    filled.scores[0, count : count + len(more)] = last - 1 - np.arange(len(more))
    ranks = {source: of_source.copy() for source, of_source in answer.ranks.items()}
    ranks.setdefault(POPULARITY, np.zeros(tracks[None].shape, np.int32))[0, count : count + len(more)] = more + 1
    return Answer(filled, ranks)


def _popular(query: Query, taken: Ints, mask: Mask | None, num_tracks: int) -> Ints:
    """The allowed tracks that are neither asked with, excluded nor taken, most popular first."""
    free = np.ones(num_tracks, bool) if mask is None else mask.copy()
    for tracks in (query.seeds, query.exclude, taken):
        free[tracks] = False
    return np.flatnonzero(free).astype(np.int32)
