"""Small worlds in memory, with an answer that is known beforehand.

In the checkerboard (the test world of the library implicit) even playlists hold even tracks and odd playlists odd ones,
some left out. Whoever is asked with even tracks, or with a title of even playlists, must be told an even track first.
The last tracks are held by nobody; what they are made of still says whether they are even.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import numpy as np
import polars as pl

from engine.config import CandidatesConfig, Config, ExamplesConfig, SourcesConfig
from engine.model import Trained
from engine.pipeline import Pipeline, second_stage
from engine.train.plan import train
from features.catalog import Catalog
from features.dataset import Dataset
from features.domain import Candidates, Floats, Ints, Queries, Query
from features.interactions import Interactions
from features.schema import CATALOG, PLAYLISTS
from features.vocabulary import Vocabulary
from stages.protocols import Retriever
from stages.rank.lambdamart import LambdaMartRecipe
from stages.retrieve.als.model import AlsRecipe
from stages.retrieve.autoencoder.model import AutoencoderRecipe
from stages.retrieve.catalogue.related_artists import RelatedRecipe
from stages.retrieve.content.recipes import ContractiveRecipe
from stages.retrieve.index.recipe import IndexRecipe
from stages.training_data import TrainingData

PARITIES = ("even", "odd")
WORDS = (("drive", "gym", "rain"), ("sunday", "kitchen", "party"))
"""Of the titles, by parity."""


def ints(*values: int) -> Ints:
    return np.array(values, np.int32)


def query(*seeds: int, title: str = "", exclude: Iterable[int] = ()) -> Query:
    return Query(ints(*seeds), title, ints(*exclude))


def candidates(
    tracks: Sequence[int],
    offsets: Sequence[int],
    ranks: Mapping[str, Sequence[int]] | None = None,
    scores: Mapping[str, Sequence[float]] | None = None,
    query_vectors: Mapping[str, Floats] | None = None,
) -> Candidates:
    """Candidates from what each source says of them; without scores the first is the best."""
    ranks = ranks or {}
    scores = scores or {source: [1 / rank if rank else float("nan") for rank in of_source] for source, of_source in ranks.items()}
    shape = (len(ranks), len(tracks))
    return Candidates(
        np.array(tracks, np.int32),
        np.array(offsets, np.int64),
        tuple(ranks),
        np.array(list(ranks.values()), np.int32).reshape(shape),
        np.array(list(scores.values()), np.float32).reshape(shape),
        query_vectors or {},
    )


def queries(*asked: Query) -> Queries:
    return Queries.of(asked)


def interactions(
    rows: Sequence[Sequence[int]], num_tracks: int, titles: Sequence[str] | None = None, plays: Sequence[float] | None = None
) -> Interactions:
    """Playlist `i` holds `rows[i]`, in that order; `plays` over all rows one after the other, else 1 each."""
    tracks = np.array([track for row in rows for track in row], np.int32)
    return Interactions(
        tracks=tracks,
        plays=np.ones(len(tracks), np.float32) if plays is None else np.array(plays, np.float32),
        offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64),
        titles=("",) * len(rows) if titles is None else tuple(titles),
        num_tracks=num_tracks,
    )


def catalog(num_tracks: int, **columns: Sequence[Any]) -> Catalog:
    """`columns` are known, everything else is null."""
    nothing = {name: pl.Series([None] * num_tracks, dtype=dtype) for name, dtype in CATALOG.items()}
    known = {name: pl.Series(values, dtype=CATALOG[name]) for name, values in columns.items()}
    return Catalog(pl.DataFrame(nothing | known))


def visible(
    held: Interactions, described: Catalog | None = None, content: Floats | None = None, seed: int = 0, names: tuple[str, ...] = ()
) -> TrainingData:
    """What may be learned from; without more said, nothing is known of a track but who holds it."""
    nothing = np.empty((held.num_tracks, 0), np.float32)
    return TrainingData(held, described or catalog(held.num_tracks), nothing if content is None else content, seed, names)


def dataset(held: Interactions, described: Catalog | None = None, challenge: Iterable[int] = ()) -> Dataset:
    """As `segue ingest` would leave it; the playlists of `challenge` are challenge playlists."""
    of_challenge = set(challenge)
    table = pl.DataFrame(
        {
            "playlist_id": [f"p{i}" for i in range(held.num_playlists)],
            "title": list(held.titles),
            "num_followers": [1] * held.num_playlists,
            "is_challenge": [i in of_challenge for i in range(held.num_playlists)],
        },
        schema=PLAYLISTS,
    )
    vocabulary = Vocabulary([f"t{i}" for i in range(held.num_tracks)])
    return Dataset(vocabulary, described or catalog(held.num_tracks), table, held, "a world in memory")


@dataclass(frozen=True)
class Checkerboard:
    """`num_held` tracks that playlists hold, then some that nobody holds."""

    visible: TrainingData
    num_held: int

    @property
    def num_tracks(self) -> int:
        return self.visible.num_tracks

    @property
    def held(self) -> Interactions:
        return self.visible.interactions

    def dataset(self) -> Dataset:
        return dataset(self.held, self.visible.catalog)

    def questions(self, count: int = 10) -> Queries:
        """What the first `count` playlists would ask: with their tracks, and their titles."""
        return Queries.of(Query(self.held.tracks_of(i), self.held.titles[i]) for i in range(count))

    def precision_at_1(self, first: Ints) -> float:
        """The share of `questions()` whose first answer (q,) is of their parity; NO_TRACK is of none."""
        return float(np.mean((first >= 0) & (first % 2 == np.arange(len(first)) % 2)))

    def but(self, **changes: Any) -> TrainingData:
        """What is visible of it, with some of it changed."""
        return replace(self.visible, **changes)


def checkerboard(num_playlists: int = 60, num_held: int = 280, num_cold: int = 4, share: float = 0.5, seed: int = 7) -> Checkerboard:
    """Each playlist holds about `share` of the held tracks of its parity, never fewer than five less than all."""
    random = np.random.default_rng(seed)
    num_tracks = num_held + num_cold
    tracks = np.arange(num_tracks)
    rows, titles = [], []
    for playlist in range(num_playlists):
        of_parity = np.arange(playlist % 2, num_held, 2)
        size = min(max(1, round(share * len(of_parity))), len(of_parity) - 5)
        rows.append(random.permutation(of_parity)[:size].tolist())
        titles.append(f"{PARITIES[playlist % 2]} {WORDS[playlist % 2][playlist // 2 % 3]}")
    described = catalog(
        num_tracks,
        title=[f"track {track}" for track in tracks],
        artist=[f"{PARITIES[track % 2]} artist {track // 2 % 8}" for track in tracks],
        album=[f"album {track // 2 % 16}" for track in tracks],
        energy=np.where(tracks % 2, 0.8, 0.2) + random.normal(0, 0.02, num_tracks),
        danceability=np.where(tracks % 2, 0.3, 0.7) + random.normal(0, 0.02, num_tracks),
    )
    sound = np.stack([described.table[name].to_numpy() for name in ("energy", "danceability")], axis=1)
    content = np.concatenate([sound, random.normal(0, 0.05, (num_tracks, 2))], axis=1).astype(np.float32)
    return Checkerboard(visible(interactions(rows, num_tracks, titles), described, content, seed), num_held)


SMALL = Config(
    seed=3,
    alternatives={},
    sources=SourcesConfig(
        als=AlsRecipe(factors=8, iterations=4, alpha=10),
        related=RelatedRecipe(als=AlsRecipe(factors=4, iterations=4, alpha=10)),
        autoencoder=AutoencoderRecipe(dim=8, epochs=8, batch_size=16, negatives=64, learning_rate=0.02),
        content=ContractiveRecipe(
            dim=6, epochs=6, batch_size=32, learning_rate=0.01, index=IndexRecipe(kind="annoy", n_trees=5, search_k=2_000)
        ),
    ),
    candidates=CandidatesConfig(per_source=50, least=60, per_answer=2),
    examples=ExamplesConfig(folds=1, share=0.5, misses=30, check_share=0.4),
    ranker=LambdaMartRecipe(num_iterations=15, num_leaves=5, min_data_in_leaf=5, learning_rate=0.2),
)
"""A training of a second or two, with every source and both kinds of index."""


@dataclass(frozen=True)
class Training:
    """A training on the checkerboard by `SMALL`."""

    board: Checkerboard
    dataset: Dataset
    trained: Trained
    pipeline: Pipeline


@cache
def training() -> Training:
    """One for all tests that only look at it."""
    board = checkerboard(num_playlists=80, num_held=120, num_cold=4)
    trained = train(board.dataset(), SMALL)
    return Training(board, board.dataset(), trained, pipeline_of(trained))


def pipeline_of(trained: Trained, config: Config = SMALL) -> Pipeline:
    """What a training made, as one would serve it."""
    sources = cast("dict[str, Retriever]", dict(trained.sources))
    return Pipeline(sources, second_stage(sources, trained.facts, trained.fusion, trained.ranker, config.candidates))
