"""The playlists that the ranker learns from: masked in folds, each hidden from the sources that make its examples.

Input: a dataset and a config. Output: per fold a split (queries, what is hidden from them, and what the sources may see), and which
of its queries fit the fusion, make examples, or are left for the check. The hidden tracks live in `Split.qrels`; what fits a source
is given `Split.visible` and nothing else. Knows no source and no worker.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.config import Config
from features.dataset import Dataset
from features.domain import Ints, Qrels, Queries
from features.interactions import Interactions
from features.schema import IS_CHALLENGE
from features.split import Split, hide
from stages.training_data import TrainingData

FUSION_QUERIES = 300
"""Queries that the fusion's weights are fitted on."""
Judged = tuple[Queries, Qrels]
"""Queries, and the tracks that are hidden from each."""


@dataclass(frozen=True)
class Fold:
    """One part of the masked playlists; no two folds mask the same (cross-fitting)."""

    dataset: Dataset
    config: Config
    number: int
    """From 0."""

    @property
    def masked_stage(self) -> str:
        """The stage in which the sources see the seeds alone of this fold's playlists."""
        return f"masked {self.number + 1}"

    @property
    def examples_stage(self) -> str:
        return f"examples {self.number + 1}"

    @cached_property
    def split(self) -> Split:
        return masked(self.dataset, self.config, self.number)

    @cached_property
    def data(self) -> TrainingData:
        """What this fold's sources may learn from. They make examples and serve nobody: exact indexes, unless the config names another."""
        return training_data(self.dataset, self.split.visible, self.config, serves=False)

    def free(self) -> None:
        """Drops what takes memory; it is computed again where it is needed again."""
        for large in ("split", "data"):
            self.__dict__.pop(large, None)

    def for_fusion(self) -> Judged:
        """What the fusion's weights are fitted on."""
        return select(self.split, learn_from(self.split, self.config)[:FUSION_QUERIES])

    def for_check(self) -> Judged:
        """What no model learns from: the figures in the manifest come from these."""
        return select(self.split, np.flatnonzero(_is_for_check(self.split, self.config)).astype(np.int32))


def training_data(dataset: Dataset, interactions: Interactions, config: Config, *, serves: bool = True) -> TrainingData:
    """What may be learned from: `interactions` is the dataset's own, or what a Split left visible of it."""
    return TrainingData.of(interactions, dataset.catalog, config.content_matrix, config.seed, serves)


def masked(dataset: Dataset, config: Config, fold: int = 0) -> Split:
    """A fold's playlists, others than any other fold's; never a challenge playlist, whose tracks are not all known."""
    complete = np.flatnonzero(~dataset.playlists[IS_CHALLENGE].to_numpy())
    wanted = config.examples
    count = min(wanted.playlists // wanted.folds, len(complete) // wanted.folds, int(len(complete) * wanted.share))
    chosen = np.random.default_rng(config.seed).permutation(complete)[fold * count : (fold + 1) * count]
    return hide(dataset.interactions, np.sort(chosen).astype(np.int32), config.seed + fold)


def learn_from(split: Split, config: Config) -> Ints:
    """The queries of the split that the ranker learns from."""
    return np.flatnonzero(~_is_for_check(split, config)).astype(np.int32)


def share_of(split: Split, chosen: Ints, worker: int, workers: int) -> Ints:
    """Those of the `chosen` queries whose examples `worker` makes: whole queries, by a hash of the playlist."""
    own: Ints = chosen[_digests("worker", split.playlists[chosen]) % workers == worker]
    return own


def select(split: Split, chosen: Ints) -> Judged:
    return Queries.of(split.queries[int(i)] for i in chosen), Qrels.of([split.qrels.of_query(int(i)) for i in chosen])


def _is_for_check(split: Split, config: Config) -> np.ndarray:
    """(q,) which queries the ranker does not learn from: by a hash of the playlist, so that order and workers do not matter."""
    return _digests(f"{config.seed}", split.playlists) < config.examples.check_share * 2**32


def _digests(salt: str, playlists: Ints) -> np.ndarray:
    """(len(playlists),) an even number from 0 to 2^32 for each playlist, which depends on nothing else but `salt`."""
    digests = (hashlib.blake2b(f"{salt} {playlist}".encode(), digest_size=4).digest() for playlist in playlists)
    return np.array([int.from_bytes(digest, "big") for digest in digests], np.int64)
