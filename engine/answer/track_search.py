"""Tracks by what they are called: title, artist or id, whatever the case.

Input: a model's Names and some words. Output: the tracks that hold every word, most popular first. One scan over all
tracks; nothing is indexed. Knows no query and no HTTP.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.model import Names
from features.domain import Ints
from features.schema import ARTIST, TITLE, TRACK_ID

MOST_WORDS = 10
"""Words that count; bounds the work a request can ask for."""


class TrackSearch:
    """Every track's title, artist and id in lower case."""

    def __init__(self, names: Names) -> None:
        table = names.catalog.table.select(TITLE, ARTIST).with_columns(names.vocabulary.track_ids.alias(TRACK_ID))
        text = pl.concat_str(TITLE, ARTIST, TRACK_ID, separator="\n", ignore_nulls=True).str.to_lowercase()
        self._texts = table.select(text.alias("text"))["text"]

    def find(self, words: str, limit: int) -> Ints:
        """The first `limit` tracks, in the order of their indices, that hold each of the words somewhere."""
        wanted = words.lower().split()[:MOST_WORDS]
        if not wanted:
            return np.empty(0, np.int32)
        found = self._texts.str.contains(wanted[0], literal=True)
        for word in wanted[1:]:
            found &= self._texts.str.contains(word, literal=True)
        return found.arg_true().head(limit).to_numpy().astype(np.int32)
