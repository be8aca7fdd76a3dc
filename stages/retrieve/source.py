"""What all trained sources share: they answer one query or a batch, are saved into a folder, and say what they are.

Input: queries, or an empty folder. Output: the best tracks of each query, or plain files. Knows no model.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from features.domain import Floats, Queries, Query, Retrieved, SegueError


class Source(ABC):
    """A trained retriever. Each kind answers a batch; one query is a batch of one."""

    track_vectors: Floats | None
    """(num_tracks, dim) where scores are inner products of a query's vector and a track's; None where they are not."""

    @property
    def track_biases(self) -> Floats | None:
        """(num_tracks,) what a track gains with every query; None where a source learns no such number."""
        return None

    def retrieve(self, queries: Query | Queries, n: int) -> Retrieved:
        """(q, n) the best tracks of each query of a batch, or (1, n) those of one query, padded with NO_TRACK.

        Never a seed or an excluded track; best first, equal scores by track index. SegueError for anything but queries.
        """
        if isinstance(queries, Query):
            return self.retrieve_batch(Queries.of([queries]), n)
        if isinstance(queries, Queries):
            return self.retrieve_batch(queries, n)
        raise SegueError(
            f"retrieve: expected a Query or Queries, found {type(queries).__name__}. Make one with `dataset.query(...)`, "
            "a batch with `Queries.of([...])`"
        )

    @abstractmethod
    def retrieve_batch(self, queries: Queries, n: int) -> Retrieved:
        """What `retrieve` promises, for a batch."""

    def save(self, folder: str | os.PathLike[str]) -> dict[str, Any]:
        """Writes plain files into `folder`, which is made if need be; returns what the manifest should say of the source."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        return self.write(path)

    @abstractmethod
    def write(self, folder: Path) -> dict[str, Any]:
        """What `save` promises, into an existing folder."""

    @property
    @abstractmethod
    def size(self) -> str:
        """What was learned, in numbers: `600 tracks x 64 factors`."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.size}>"


class WithoutVectors(Source):
    """A source whose scores are no inner products."""

    track_vectors: None = None
