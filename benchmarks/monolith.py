"""The baseline of the serving benchmark: one plain web application with ALS and a ranker, in two workers.

Input: a dataset. Output: a folder with `implicit`'s ALS and a LightGBM ranker, both really trained; and a FastAPI application
over them, which uvicorn runs. A request folds its tracks in, finds the exact best candidates, computes features of each and
ranks them; titles, other sources, limits, versions and errors are left out. Knows no Ray and nothing of the service.
"""

# No `from __future__ import annotations`: FastAPI reads those of the function inside `app`.

import os
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import scipy.sparse as sp
from fastapi import FastAPI
from implicit.cpu.als import AlternatingLeastSquares
from pydantic import BaseModel

from features.dataset import Dataset
from features.domain import NO_TRACK, Floats, Ints
from features.schema import ARTIST, TITLE
from features.split import HISTORIES, Split, hide

FACTORS, SWEEPS, ALPHA, REGULARIZATION = 128, 15, 10.0, 0.1
CANDIDATES = 500
TREES, LEAVES = 200, 31
EXAMPLES = 600
"""Playlists the ranker is trained with, all candidates of each."""
SEED = 0
FEATURES = 18
FOLDER, DATASET = "MONOLITH_FOLDER", "MONOLITH_DATASET"
ALS_FILE, RANKER_FILE = "als.npz", "ranker.txt"


class Retrieval:
    """Stage one, with the features of what it finds."""

    def __init__(self, dataset: Dataset, als: AlternatingLeastSquares) -> None:
        self.dataset, self.als = dataset, als
        self.held = len(als.item_factors)
        self.lengths = np.linalg.norm(als.item_factors, axis=1)
        self.unit = als.item_factors / np.maximum(self.lengths, 1e-9)[:, None]
        counts = dataset.interactions.track_counts
        self.popularity = np.log1p(counts).astype(np.float32)
        self.artists, self.albums = dataset.catalog.artists, dataset.catalog.albums
        self.artist_popularity, self.album_popularity = (np.log1p(_summed(of, counts)) for of in (self.artists, self.albums))

    def candidates(self, seeds: Ints) -> tuple[Ints, Floats]:
        """The exact best, best first; the popular ones for who has no tracks."""
        if not len(seeds):
            return np.arange(CANDIDATES, dtype=np.int32), np.zeros(CANDIDATES, np.float32)
        row = sp.csr_matrix((np.ones(len(seeds), np.float32), seeds, [0, len(seeds)]), shape=(1, self.held))
        found: tuple[Ints, Floats] = self.als.recommend(0, row, N=CANDIDATES, recalculate_user=True)
        return found

    def features(self, seeds: Ints, tracks: Ints, scores: Floats) -> Floats:
        """(len(tracks), FEATURES)"""
        columns = np.zeros((FEATURES, len(tracks)), np.float32)
        columns[:8] = (
            scores,
            np.arange(len(tracks)),
            self.popularity[tracks],
            self.lengths[tracks],
            self.artist_popularity[tracks],
            self.album_popularity[tracks],
            np.full(len(tracks), len(seeds)),
            scores / max(float(scores[0]), 1e-9),
        )
        if len(seeds):
            columns[8:] = self._beside(seeds, tracks)
        return columns.T

    def _beside(self, seeds: Ints, tracks: Ints) -> tuple[Floats, ...]:
        similar = self.unit[tracks] @ self.unit[seeds].T  # (tracks, seeds)
        same_artist = self.artists[tracks][:, None] == self.artists[seeds]
        same_album = self.albums[tracks][:, None] == self.albums[seeds]
        return (
            similar.mean(axis=1),
            similar.max(axis=1),
            similar.min(axis=1),
            similar[:, -1],
            same_artist.sum(axis=1),
            same_artist.mean(axis=1),
            same_album.sum(axis=1),
            same_album.mean(axis=1),
            self.popularity[tracks] - self.popularity[seeds].mean(),
            np.full(len(tracks), len(np.unique(self.artists[seeds]))),
        )


def _summed(groups: Ints, counts: np.ndarray) -> Floats:
    """(num_tracks,) of each track, what all tracks of its group are held together."""
    return np.bincount(groups + 1, counts)[groups + 1].astype(np.float32)


class Monolith:
    """Both stages, in words."""

    def __init__(self, folder: Path, dataset: Path) -> None:
        als = AlternatingLeastSquares.load(str(folder / ALS_FILE))
        als.num_threads = 1
        self._retrieval = Retrieval(Dataset.open(dataset), als)
        self._ranker = lightgbm.Booster(model_file=str(folder / RANKER_FILE))
        self.recommend([], 1)

    @cached_property
    def _words(self) -> list[tuple[str, str | None, str | None]]:
        known = self._retrieval.dataset
        ids = known.vocabulary.ids(np.arange(self._retrieval.held))
        return list(zip(ids, *(known.catalog.table[name][: self._retrieval.held].to_list() for name in (TITLE, ARTIST)), strict=True))

    def recommend(self, track_ids: list[str], k: int) -> list[dict[str, Any]]:
        found = self._retrieval.dataset.vocabulary.index_of(track_ids)
        seeds = np.unique(found[(found != NO_TRACK) & (found < self._retrieval.held)])
        tracks, scores = self._retrieval.candidates(seeds)
        ranked = self._ranker.predict(self._retrieval.features(seeds, tracks, scores), num_threads=1)
        best = np.argsort(-ranked)[:k]
        named = zip((self._words[track] for track in tracks[best]), ranked[best].tolist(), strict=True)
        return [{"track_id": track_id, "title": title, "artist": artist, "score": score} for (track_id, title, artist), score in named]


def train(dataset: Path, folder: Path) -> None:
    """The ranker's examples are playlists whose ends ALS did not see."""
    known = Dataset.open(dataset)
    order = np.random.default_rng(SEED).permutation(known.interactions.num_playlists)
    split = hide(known.interactions, np.sort(order[:EXAMPLES]).astype(np.int32), SEED, HISTORIES)
    held = int((known.interactions.track_counts > 0).sum())  # tracks are in the order of how often they are held
    als = AlternatingLeastSquares(FACTORS, REGULARIZATION, ALPHA, iterations=SWEEPS, num_threads=0, random_state=SEED)
    als.fit(split.visible.holds[:, :held], show_progress=False)
    als.save(str(folder / ALS_FILE))
    _ranker(Retrieval(known, als), split).save_model(str(folder / RANKER_FILE))


def _ranker(retrieval: Retrieval, split: Split) -> lightgbm.Booster:
    features, labels = [], []
    for i in range(len(split.queries)):
        seeds = np.unique(split.queries.seeds_of(i))
        tracks, scores = retrieval.candidates(seeds)
        features.append(retrieval.features(seeds, tracks, scores))
        labels.append(np.isin(tracks, split.qrels.of_query(i)))
    data = lightgbm.Dataset(np.concatenate(features), np.concatenate(labels), group=[len(of) for of in labels])
    settings = {"objective": "lambdarank", "num_leaves": LEAVES, "learning_rate": 0.1, "seed": SEED, "verbosity": -1}
    return lightgbm.train(settings, data, TREES)


class Request(BaseModel):
    tracks: list[str] = []
    title: str = ""
    k: int = 10


def app() -> FastAPI:
    """What uvicorn starts in each worker."""
    web, monolith = FastAPI(), Monolith(Path(os.environ[FOLDER]), Path(os.environ[DATASET]))

    @web.post("/v1/recommend")
    def recommend(asked: Request) -> dict[str, Any]:
        return {"tracks": monolith.recommend(asked.tracks, asked.k), "degraded": []}

    @web.get("/worker")
    def worker() -> int:
        return os.getpid()

    return web


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]))
