"""The whole program in one process: queries in, ranked tracks out. No Ray, no file.

Input: trained sources and a second stage. Output: for each query the best k tracks, with the sources that proposed
each. A server calls the same two stages over the network: `retrieve` of every source, then `SecondStage.rank`.
Knows neither how a model is trained nor where it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from engine.config import CandidatesConfig
from features.domain import Candidates, Floats, Ints, Queries, Ranking, Retrieved
from features.pairs import Facts, PairFeatures, Space
from stages.protocols import Retriever
from stages.rank.fusion import Fusion
from stages.rank.lambdamart import LambdaMart
from stages.retrieve import topk
from stages.retrieve.union import cut, each, join, unite

BATCH = 16
"""Queries ranked at once when there are many; bounds the memory of the pair features."""


@dataclass(frozen=True)
class Answer:
    """The best tracks of each query, and which source proposed each of them."""

    ranking: Ranking
    ranks: Mapping[str, Ints]
    """Per source (q, k): the rank at which it proposed the track, 0 where it did not."""

    @classmethod
    def join(cls, answers: list[Answer]) -> Answer:
        """`answers` (at least one) one after the other."""
        ranks = {source: np.concatenate([answer.ranks[source] for answer in answers]) for source in answers[0].ranks}
        return cls(Ranking.join([answer.ranking for answer in answers]), ranks)


@dataclass(frozen=True)
class SecondStage:
    """From what the sources proposed to the order of the answer."""

    pair_features: PairFeatures
    fusion: Fusion
    ranker: LambdaMart | None
    """None: the order of the fusion is the answer."""
    budget: CandidatesConfig

    def candidates(self, retrieved: Mapping[str, Retrieved], k: int) -> Candidates:
        """The union of the proposals, cut by fusion to what may be ranked when `k` tracks are asked for."""
        most = self.budget.most(k)
        unions = (unite(of_query) for of_query in each(retrieved))  # one at a time: a union is much larger than what is kept
        return join([cut(union, self.fusion.score(union), most) for union in unions])

    def scores(self, queries: Queries, candidates: Candidates) -> Floats:
        """(num_candidates,) by the ranker, or by fusion without one."""
        if self.ranker is None:
            return self.fusion.score(candidates)
        return self.ranker.score(self.pair_features.compute(queries, candidates))

    def rank(self, queries: Queries, retrieved: Mapping[str, Retrieved], k: int) -> Answer:
        candidates = self.candidates(retrieved, k)
        return answer(candidates, self.scores(queries, candidates), k)


def answer(candidates: Candidates, scores: Floats, k: int) -> Answer:
    """The best `k` candidates of each query by `scores` (num_candidates,), ties by track index."""
    ranking = topk.empty(len(candidates), k)
    ranks = np.zeros((len(candidates.sources), len(candidates), k), np.int32)
    for i in range(len(candidates)):
        start, stop = candidates.offsets[i], candidates.offsets[i + 1]
        places, best = topk.best(np.arange(start, stop, dtype=np.int32), scores[start:stop], k)
        ranking.tracks[i, : len(places)] = candidates.tracks[places]
        ranking.scores[i, : len(places)] = best
        ranks[:, i, : len(places)] = candidates.ranks[:, places]
    return Answer(Ranking(ranking.tracks, ranking.scores), dict(zip(candidates.sources, ranks, strict=True)))


def second_stage(
    sources: Mapping[str, Retriever], facts: Facts, fusion: Fusion, ranker: LambdaMart | None, budget: CandidatesConfig
) -> SecondStage:
    """A second stage whose columns are those of `sources`, in their order."""
    return SecondStage(PairFeatures(facts, tuple(sources), spaces(sources)), fusion, ranker, budget)


def spaces(sources: Mapping[str, Retriever]) -> dict[str, Space]:
    """The vector spaces among the sources."""
    vectors = {name: (source.track_vectors, source.track_biases) for name, source in sources.items()}
    return {name: Space(of_source, biases) for name, (of_source, biases) in vectors.items() if of_source is not None}


@dataclass(frozen=True)
class Pipeline:
    """Both stages side by side."""

    sources: Mapping[str, Retriever]
    second: SecondStage

    def retrieve(self, queries: Queries, k: int | None = None) -> dict[str, Retrieved]:
        """What each source proposes where `k` tracks are asked for; None: as many as for the longest list."""
        n = self.second.budget.proposals(k)
        return {name: source.retrieve(queries, n) for name, source in self.sources.items()}

    def recommend(self, queries: Queries, k: int) -> Answer:
        """The best `k` tracks of each query, in batches of bounded memory."""
        answers = [self.second.rank(batch, self.retrieve(batch, k), k) for batch in batches(queries)]
        nothing = topk.empty(0, k)
        return Answer.join(answers) if answers else Answer(Ranking(nothing.tracks, nothing.scores), {})


def batches(queries: Queries, size: int = BATCH) -> Iterator[Queries]:
    """`queries` in parts of at most `size`."""
    for start in range(0, len(queries), size):
        yield queries.part(start, start + size)


def alone(source: Retriever, queries: Queries, k: int) -> Ranking:
    """What one source says by itself."""
    retrieved = source.retrieve(queries, k)
    return Ranking(retrieved.tracks, retrieved.scores)
