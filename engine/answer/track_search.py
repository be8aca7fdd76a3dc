"""Finds tracks by the words of their title, artist or id, in upper or lower case.

Input: a model's Names and some words. Output: the tracks that contain every word, the most popular first. One scan over all
tracks, without an index. Independent of HTTP.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.model import Names
from features.domain import Ints
from features.schema import ARTIST, TITLE, TRACK_ID

MAX_WORDS = 10
"""Further words are ignored, which limits the work of one request."""


class TrackSearch:
    """The title, artist and id of every track in lower case."""

    def __init__(self, names: Names) -> None:
        table = names.catalog.table.select(TITLE, ARTIST).with_columns(names.vocabulary.track_ids.alias(TRACK_ID))
        text = pl.concat_str(TITLE, ARTIST, TRACK_ID, separator="\n", ignore_nulls=True).str.to_lowercase()
        self._texts = table.select(text.alias("text"))["text"]

    def find(self, text: str, limit: int) -> Ints:
        """The first `limit` tracks, in the order of their indices, that contain each of the words of `text`."""
        words = text.lower().split()[:MAX_WORDS]
        if not words:
            return np.empty(0, np.int32)
        matches = self._texts.str.contains(words[0], literal=True)
        for word in words[1:]:
            matches &= self._texts.str.contains(word, literal=True)
        return matches.arg_true().head(limit).to_numpy().astype(np.int32)
