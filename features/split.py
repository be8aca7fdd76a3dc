"""Train/test split: some tracks of a playlist are hidden, the others become a query. The only access to held-out data.

Input: everybody's interactions. Output: what stays visible of them, the queries made from some playlists, and what was
hidden from those. Whatever is trained to answer the queries may see `Split.visible` and nothing else.
Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.domain import Ints, Qrels, Queries, Query, counted
from features.interactions import Interactions

LEAST_HIDDEN = 5
"""A shape of the challenge is asked of a playlist only if so many of its tracks stay hidden."""


@dataclass(frozen=True)
class Shape:
    """How a request looks: whether it has a title, how many seeds, and whether these are the first or random ones."""

    name: str
    seeds: int
    title: bool = True
    shuffled: bool = False
    share: float = 0.0
    """The seeds are so much of the playlist, where that is more than `seeds`."""
    hidden: int = LEAST_HIDDEN
    """Tracks that stay hidden, at least."""

    def count(self, lengths: np.ndarray) -> np.ndarray:
        """How many seeds a playlist of each of the `lengths` shows."""
        return np.maximum(self.seeds, (self.share * lengths).astype(np.int64))

    def fits(self, lengths: np.ndarray) -> np.ndarray:
        """Whether playlists of these lengths can be asked so."""
        return np.asarray(self.count(lengths) + self.hidden <= lengths)


SHAPES = (
    Shape("title only", 0),
    Shape("title + first 1", 1),
    Shape("title + first 5", 5),
    Shape("first 5", 5, title=False),
    Shape("title + first 10", 10),
    Shape("first 10", 10, title=False),
    Shape("title + first 25", 25),
    Shape("title + random 25", 25, shuffled=True),
    Shape("title + first 100", 100),
    Shape("title + random 100", 100, shuffled=True),
)
"""The ten request shapes of the RecSys Challenge 2018 (Zamani et al. 2019), by category."""

HISTORIES = (
    Shape("first 5", 5, title=False),
    Shape("first half", 1, title=False, share=0.5, hidden=1),
    Shape("random half", 1, title=False, shuffled=True, share=0.5, hidden=1),
    Shape("random four fifths", 1, title=False, shuffled=True, share=0.8, hidden=1),
    Shape("random nine tenths", 1, title=False, shuffled=True, share=0.9, hidden=1),
)
"""Where nothing has a title: a listener's history, of which most is known when the question comes."""


def shapes_of(interactions: Interactions) -> Sequence[Shape]:
    """How requests will look, by what there is to ask with."""
    return SHAPES if any(title.strip() for title in interactions.titles) else HISTORIES


@dataclass(frozen=True)
class Split:
    """The queries' playlists appear in `visible` with their seeds alone."""

    visible: Interactions
    playlists: Ints
    """(q,) the playlist each query was made from."""
    queries: Queries
    qrels: Qrels
    shapes: Ints
    """(q,) index into the shapes."""

    def __repr__(self) -> str:
        hidden = counted(len(self.qrels.relevant.values), "hidden track")
        return f"Split({len(self.playlists):,} of {counted(self.visible.num_playlists, 'playlist')}, {hidden})"


def hide(interactions: Interactions, playlists: Ints, seed: int, shapes: Sequence[Shape] | None = None) -> Split:
    """Masks each of `playlists` like a request, by default of `shapes_of` the interactions; shapes come equally often as far
    as the lengths allow. A playlist too short for any shape stays as it is and becomes no query.
    """
    shapes = shapes or shapes_of(interactions)
    rng = np.random.default_rng(seed)
    lengths = interactions.lengths()
    usable = playlists[np.any([shape.fits(lengths[playlists]) for shape in shapes], axis=0)]
    chosen = _assign(lengths[usable], shapes, rng)
    seeds = [_seeds(interactions.tracks_of(p), shapes[s], rng) for p, s in zip(usable, chosen, strict=True)]
    queries = [Query(own, interactions.titles[p] if shapes[s].title else "") for p, s, own in zip(usable, chosen, seeds, strict=True)]
    hidden = [np.setdiff1d(interactions.tracks_of(p), own) for p, own in zip(usable, seeds, strict=True)]
    visible = without(interactions, usable, hidden)
    return Split(visible, usable.astype(np.int32), Queries.of(queries), Qrels.of(hidden), chosen.astype(np.int32))


def _assign(lengths: np.ndarray, shapes: Sequence[Shape], rng: np.random.Generator) -> np.ndarray:
    """(q,) a shape for each playlist: of those it is long enough for, the one given least often so far."""
    fits = np.stack([shape.fits(lengths) for shape in shapes], axis=1)  # (q, shapes)
    given = np.zeros(len(shapes))
    chosen = np.zeros(len(lengths), np.int64)
    for i in np.argsort(lengths + rng.random(len(lengths)))[::-1]:
        open_shapes = np.flatnonzero(fits[i])
        chosen[i] = open_shapes[np.lexsort((rng.random(len(open_shapes)), given[open_shapes]))[0]]
        given[chosen[i]] += 1
    return chosen


def _seeds(tracks: Ints, shape: Shape, rng: np.random.Generator) -> Ints:
    count = int(shape.count(np.array(len(tracks))))
    if not shape.shuffled:
        return tracks[:count]
    return tracks[np.sort(rng.choice(len(tracks), count, replace=False))]


def without(interactions: Interactions, playlists: Ints, hidden: Sequence[Ints]) -> Interactions:
    """The same playlists in the same rows, those of `playlists` without their `hidden` tracks."""
    keep = np.ones(len(interactions.tracks), bool)
    for playlist, tracks in zip(playlists, hidden, strict=True):
        own = slice(interactions.offsets[playlist], interactions.offsets[playlist + 1])
        keep[own] = ~np.isin(interactions.tracks[own], tracks)
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    return replace(
        interactions,
        tracks=interactions.tracks[keep],
        plays=interactions.plays[keep],
        offsets=kept_before[interactions.offsets].astype(np.int64),
    )
