"""The title source: playlists with a similar title, and artists with a similar name, vote for their tracks.

Input: playlist titles, artist names and playlist-track interactions. Output: the tracks with the most votes.
Titles are compared by character n-grams, tf-idf weighted, so that spelling, case, emoji and word order matter little
(Cavnar and Trenkle 1994 for n-grams; the hashing trick of Weinberger et al. 2009 keeps no list of them).
Knows no seed tracks and no content.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from features.domain import Queries, Retrieved, counted
from features.progress import Progress
from features.ragged import offsets_of
from stages.retrieve.playlists.voting import Voters
from stages.retrieve.recipe import Recipe
from stages.retrieve.source import WithoutVectors
from stages.retrieve.sparse import largest_by_group
from stages.retrieve.sparse_sums import rows_of
from stages.training_data import TrainingData

BUCKETS = 1 << 18
"""N-grams are hashed into so many columns."""
LONGEST_TITLE = 200
"""Characters of a title that count; bounds the work a request can ask for."""


class TitleRecipe(Recipe):
    """Which n-grams, and how many similar playlists vote."""

    kind: Literal["title"] = "title"
    shortest: int = Field(2, ge=1)
    """Characters of the shortest n-grams of a title."""
    longest: int = Field(4, ge=1, le=10)
    """Characters of the longest n-grams of a title."""
    neighbours: int = Field(400, ge=1)
    """Playlists with a similar title that vote."""
    sharpness: float = Field(1.0, gt=0)
    """Power of the similarity in a vote: the larger, the more the nearest titles count."""
    tracks_of_artist: int = Field(30, ge=0)
    """An artist's name counts as the title of a playlist of so many of the artist's most popular tracks; 0 leaves artists out."""
    least_entries_of_artist: int = Field(20, ge=1)
    """Artists whose so many tracks have fewer entries than this are left out."""

    def grams(self, titles: Sequence[str]) -> sp.csr_matrix:
        """(titles, BUCKETS) log-damped counts of each title's n-grams."""
        rows = [Counter(self._buckets(normalise(title))) for title in titles]
        indptr = offsets_of([len(row) for row in rows])
        columns = np.array([bucket for row in rows for bucket in row], np.int32)
        counts = np.array([count for row in rows for count in row.values()], np.float32)
        return sp.csr_matrix((1 + np.log(counts), columns, indptr), shape=(len(rows), BUCKETS))

    def _buckets(self, title: str) -> list[int]:
        """Of each word, with its borders marked: every n-gram, and the whole word."""
        buckets = []
        for word in title.split():
            marked = f"<{word}>"
            grams = {marked[i : i + n] for n in range(self.shortest, self.longest + 1) for i in range(len(marked) - n + 1)}
            buckets += [zlib.crc32(gram.encode(errors="surrogatepass")) % BUCKETS for gram in sorted(grams | {marked})]
        return buckets

    def read(self, folder: Path, num_tracks: int) -> Title:
        return Title(self, Voters.open(folder, BUCKETS, num_tracks, self.neighbours, self.sharpness))


def normalise(title: str) -> str:
    """Case, accents, punctuation and long repeats dropped; an emoji stays, as a word of its own."""
    folded = unicodedata.normalize("NFKD", title[:LONGEST_TITLE]).casefold()
    letters = "".join(c for c in folded if not unicodedata.combining(c) and c not in "'\u2019\ufe0f\u200d")
    spaced = "".join(f" {c} " if unicodedata.category(c) == "So" else c for c in letters)
    return " ".join(
        re.sub(r"(.)\1{2,}", r"\1\1", word) for word in re.findall(r"[^\W_]+|[^\w\s.,;:!?()\[\]{}<>\"*&+/\\|~#@$%^=_-]", spaced)
    )


def fit_title(recipe: TitleRecipe, data: TrainingData, report: Progress) -> Title:
    titles, holds = _titled(recipe, data)
    report("title", 1.0, {})
    return Title(recipe, Voters.of(holds, recipe.grams(titles), recipe.neighbours, recipe.sharpness))


def _titled(recipe: TitleRecipe, data: TrainingData) -> tuple[list[str], sp.csr_matrix]:
    """Titles, and (titles, num_tracks) 1 where the playlist, or the artist of that name, has the track."""
    catalog, held = data.catalog, data.interactions
    of_artists = largest_by_group(catalog.artists, held.track_counts, recipe.tracks_of_artist)
    often = np.flatnonzero(of_artists.sum(axis=1) >= recipe.least_entries_of_artist)
    holds = sp.vstack([held.matrix, of_artists[often]], format="csr", dtype=np.float32)
    holds.data[:] = 1
    return [*held.titles, *(catalog.artist_names[artist] for artist in often.tolist())], holds


@dataclass(frozen=True, repr=False)
class Title(WithoutVectors):
    """Trained: the playlists, and the artists as playlists, found by the n-grams of their titles."""

    recipe: TitleRecipe
    voters: Voters

    @property
    def size(self) -> str:
        return f"{counted(self.voters.holds.shape[0], 'title')} x {counted(self.voters.holds.shape[1], 'track')}"

    def retrieve_batch(self, queries: Queries, n: int) -> Retrieved:
        return self.voters.elect(rows_of(self.recipe.grams(queries.titles)), queries, n)

    def write(self, folder: Path) -> dict[str, Any]:
        self.voters.save(folder)
        return {"kind": "title", "titles": int(self.voters.holds.shape[0]), "metric": "tf-idf cosine of character n-grams"}
