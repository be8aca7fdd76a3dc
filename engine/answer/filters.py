"""Filters: which tracks an answer may contain, before ranking and when it is filled up with popular tracks.

Input: the catalog and Filters. Output: a mask over all tracks. It is applied between the two stages: a proposal that is not
allowed becomes padding in place, so that the ranks of the others mean what they meant in training. Independent of HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.answer.api import Filters, Range
from engine.answer.ranking import RankedAnswer
from features.catalog import Catalog
from features.domain import NO_TRACK, Ints, Query, Retrieved
from features.schema import ARTIST

Mask = npt.NDArray[np.bool_]

POPULARITY = "popularity"
"""The source named for a track that fills an answer up."""


def allowed_tracks(catalog: Catalog, filters: Filters) -> Mask:
    """(num_tracks,) whether every condition is known to be true of the track."""
    conditions = list(_conditions(filters))
    if not conditions:
        return np.ones(len(catalog), bool)
    return catalog.table.select(pl.all_horizontal(conditions).fill_null(False).alias("allowed"))["allowed"].to_numpy()


def _conditions(filters: Filters) -> list[pl.Expr]:
    conditions = []
    for name in type(filters).model_fields:
        value = getattr(filters, name)
        if isinstance(value, Range):
            conditions += _within(name, value)
        elif isinstance(value, bool):
            conditions.append(pl.col(name) == (1.0 if value else 0.0))
        elif isinstance(value, list):
            column = pl.col(ARTIST if name == "artist" else name)
            conditions.append(column.str.to_lowercase().is_in([one.lower() for one in value]))
    return conditions


def _within(name: str, limits: Range) -> list[pl.Expr]:
    column, conditions = pl.col(name), [pl.col(name).is_not_null()]
    if limits.min is not None:
        conditions.append(column >= limits.min)
    if limits.max is not None:
        conditions.append(column <= limits.max)
    return conditions


def limit_proposals(retrieved: Mapping[str, Retrieved], counts: Sequence[int], masks: Sequence[Mask | None]) -> dict[str, Retrieved]:
    """What each source proposes, where query `i` gets its first `counts[i]` proposals that `masks[i]` allows; None allows all.

    A query gets the same proposals in every batch, although the whole batch is retrieved with the largest count.
    """
    return {source: _limited(result, counts, masks) for source, result in retrieved.items()}


def _limited(result: Retrieved, counts: Sequence[int], masks: Sequence[Mask | None]) -> Retrieved:
    width = result.tracks.shape[1]
    if min(counts) >= width and all(mask is None for mask in masks):
        return result
    beyond = np.arange(width) >= np.array(counts)[:, None]
    tracks = np.where(beyond, np.int32(NO_TRACK), result.tracks)
    for row, mask in zip(tracks, masks, strict=True):
        if mask is not None:
            row[(row != NO_TRACK) & ~mask[row]] = NO_TRACK
    return replace(result, tracks=tracks)


def fill_with_popular(ranked: RankedAnswer, k: int, query: Query, mask: Mask | None, num_tracks: int) -> RankedAnswer:
    """`ranked`, filled up to `k` tracks with the most popular allowed tracks, as far as there are any.

    Track indices are in the order of popularity. The scores of the added tracks go down from the last score by 1 each.
    """
    n = len(ranked.tracks)
    if n >= k:
        return ranked
    added = _popular(query, ranked.tracks, mask, num_tracks)[: k - n]
    last = float(ranked.scores[-1]) if n else 0.0
    scores = (last - 1 - np.arange(len(added))).astype(np.float32)
    ranks = {source: np.concatenate([of_source, np.zeros(len(added), np.int32)]) for source, of_source in ranked.ranks.items()}
    ranks.setdefault(POPULARITY, np.zeros(n + len(added), np.int32))[n:] = added + 1
    return replace(ranked, tracks=np.concatenate([ranked.tracks, added]), scores=np.concatenate([ranked.scores, scores]), ranks=ranks)


def _popular(query: Query, taken: Ints, mask: Mask | None, num_tracks: int) -> Ints:
    """The allowed tracks that are not seeds, excluded or taken, the most popular first."""
    free = np.ones(num_tracks, bool) if mask is None else mask.copy()
    for tracks in (query.seeds, query.exclude, taken):
        free[tracks] = False
    return np.flatnonzero(free).astype(np.int32)
