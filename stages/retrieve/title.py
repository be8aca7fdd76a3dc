"""The title source: what playlists of a similar title hold.

Input: playlist titles and who holds what. Output: the tracks that playlists with similar titles vote for.
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
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field

from features.domain import Floats, Queries, Retrieved
from stages.protocols import Report, Visible, silent
from stages.retrieve.votes import Voters, open_sparse, save_sparse, unit_rows

BUCKETS = 1 << 18
"""N-grams are hashed into so many columns."""
LONGEST_TITLE = 200
"""Characters of a title that count; bounds the work a request can ask for."""


class TitleRecipe(BaseModel):
    """Which n-grams, and how many similar playlists vote."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shortest: int = Field(2, ge=1)
    longest: int = Field(5, ge=1, le=10)
    neighbours: int = Field(200, ge=1)
    sharpness: float = Field(4.0, gt=0)

    def fit(self, visible: Visible, report: Report = silent) -> Title:
        grams = self.grams(visible.interactions.titles)
        frequency = np.bincount(grams.indices, minlength=BUCKETS)
        idf = np.log((grams.shape[0] + 1) / (frequency + 1)).astype(np.float32)
        holds = visible.interactions.matrix.copy()
        holds.data[:] = 1
        report("title", 1.0, {})
        return Title(self, holds, unit_rows((grams @ sp.diags(idf)).tocsr()).T.tocsr(), idf)

    def grams(self, titles: Sequence[str]) -> sp.csr_matrix:
        """(titles, BUCKETS) log-damped counts of each title's n-grams."""
        rows = [Counter(self._buckets(normalise(title))) for title in titles]
        indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        columns = np.array([bucket for row in rows for bucket in row], np.int32)
        counts = np.array([count for row in rows for count in row.values()], np.float32)
        return sp.csr_matrix((1 + np.log(counts), columns, indptr), shape=(len(rows), BUCKETS))

    def _buckets(self, title: str) -> list[int]:
        """Of each word, with its borders marked: every n-gram, and the whole word."""
        buckets = []
        for word in title.split():
            marked = f"<{word}>"
            grams = {marked[i : i + n] for n in range(self.shortest, self.longest + 1) for i in range(len(marked) - n + 1)}
            buckets += [zlib.crc32(gram.encode()) % BUCKETS for gram in sorted(grams | {marked})]
        return buckets

    def open(self, folder: Path, num_tracks: int) -> Title:
        holds = open_sparse(folder, "holds", num_tracks)
        return Title(self, holds, open_sparse(folder, "postings", holds.shape[0]), np.load(folder / "idf.npy", allow_pickle=False))


def normalise(title: str) -> str:
    """Case, accents, punctuation and long repeats dropped; an emoji stays, as a word of its own."""
    folded = unicodedata.normalize("NFKD", title[:LONGEST_TITLE]).casefold()
    letters = "".join(c for c in folded if not unicodedata.combining(c) and c not in "'\u2019\ufe0f\u200d")
    spaced = "".join(f" {c} " if unicodedata.category(c) == "So" else c for c in letters)
    return " ".join(
        re.sub(r"(.)\1{2,}", r"\1\1", word) for word in re.findall(r"[^\W_]+|[^\w\s.,;:!?()\[\]{}<>\"*&+/\\|~#@$%^=_-]", spaced)
    )


@dataclass(frozen=True)
class Title:
    """Trained: the playlists, and for every n-gram the playlists whose title has it."""

    recipe: TitleRecipe
    holds: sp.csr_matrix
    """(num_playlists, num_tracks)"""
    postings: sp.csr_matrix
    """(BUCKETS, num_playlists) tf-idf weight of the n-gram in the title, titles scaled to length 1."""
    idf: Floats
    """(BUCKETS,)"""

    @cached_property
    def _voters(self) -> Voters:
        return Voters(self.holds, self.recipe.neighbours, self.recipe.sharpness)

    @property
    def track_vectors(self) -> None:
        return None

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        grams = self.recipe.grams(queries.titles)
        grams.data *= self.idf[grams.indices]
        return self._voters.elect((unit_rows(grams) @ self.postings).tocsr(), queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        save_sparse(folder, "holds", self.holds)
        save_sparse(folder, "postings", self.postings)
        np.save(folder / "idf.npy", self.idf)
        return {"kind": "title", "playlists": int(self.holds.shape[0]), "metric": "tf-idf cosine of character n-grams"}
