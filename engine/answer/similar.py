"""Track similarity: the nearest tracks of one track, and a more diverse choice from a ranked list.

Input: the track vectors of the als and the content source. Output: the tracks nearest to one by cosine; or a choice
from a ranked list that trades score for diversity (maximal marginal relevance, Carbonell and Goldstein 1998).
Every comparison is exact, one matrix-vector product over all tracks. Independent of queries and of HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.artifact import Artifact
from engine.model import FACTS, has_vectors, open_space
from features.domain import Floats, Ints, SegueError
from features.pairs import Space, open_counts
from features.unit_length import SHORTEST
from stages.retrieve import topk

SPACES = ("als", "content")
"""The vector spaces a track may be compared in; the first one that knows the track is used."""


@dataclass(frozen=True)
class SimilarTracks:
    """The vector spaces of an artifact, and which tracks each of them knows."""

    spaces: Mapping[str, Space]
    known: Mapping[str, np.ndarray]
    """Per space (num_tracks,) bool: als knows the tracks that are in a playlist, content those with a vector."""

    @classmethod
    def open(cls, artifact: Artifact) -> SimilarTracks:
        """The vectors are mapped into memory and shared with the sources on the same machine."""
        spaces = {name: open_space(artifact, name) for name in SPACES if has_vectors(artifact, name)}
        in_playlists = open_counts(artifact.path / FACTS, artifact.manifest.num_tracks) > 0
        known = {name: space.lengths > 1e-6 if name == "content" else in_playlists for name, space in spaces.items()}
        return cls(spaces, known)

    def nearest(self, track: int, k: int) -> tuple[str, Ints, Floats]:
        """(space, tracks, cosines), nearest first, ties by track index; a track that no space knows is a SegueError."""
        for name, space in self.spaces.items():
            if self.known[name][track]:
                return name, *self._nearest(name, space, track, k)
        raise SegueError(f"similar: expected a track with vectors in {' or '.join(SPACES)}, found one that neither knows")

    def _nearest(self, name: str, space: Space, track: int, k: int) -> tuple[Ints, Floats]:
        direction = space.vectors[track] / max(float(space.lengths[track]), SHORTEST)
        cosines = (space.vectors @ direction) / np.maximum(space.lengths, SHORTEST)
        others = self.known[name].copy()
        others[track] = False
        tracks = np.flatnonzero(others).astype(np.int32)
        return topk.best(tracks, np.clip(cosines[tracks], -1, 1).astype(np.float32), k)

    def diversify(self, tracks: Ints, scores: Floats, k: int, diversity: float) -> Ints:
        """The places of `k` of the ranked `tracks`: each maximises (1 - diversity) * score - diversity * (largest cosine to those before).

        Scores are scaled to 0…1 over `tracks`. A model without a vector space is a SegueError.
        """
        if not self.spaces:
            raise SegueError("diversity: expected a model with an als or a content source, found neither")
        space = next(iter(self.spaces.values()))
        directions = space.vectors[tracks] / np.maximum(space.lengths[tracks], SHORTEST)[:, None]
        worth = (1 - diversity) * (scores - scores.min(initial=np.inf)) / max(float(np.ptp(scores)) if len(scores) else 0.0, 1e-9)
        nearest = np.zeros(len(tracks), np.float32)
        open_places, chosen = np.ones(len(tracks), bool), []
        for _ in range(min(k, len(tracks))):
            place = int(np.argmax(np.where(open_places, worth - diversity * nearest, -np.inf)))
            chosen.append(place)
            open_places[place] = False
            nearest = np.maximum(nearest, directions @ directions[place])
        return np.array(chosen, np.int32)
