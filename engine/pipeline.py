"""Both stages in one process: queries in, ranked tracks out.

Input: trained sources and a second stage. Output: for each query the best k tracks, with the sources that proposed
each. The server calls the same two stages: `retrieve` of every source, then `engine.answer.ranking.rank_each`.
Independent of training, of files and of Ray.
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
"""Queries ranked at once; limits the memory of the pair features."""


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
    """Ranks what the sources propose: union, pair features, then the ranker."""

    pair_features: PairFeatures
    fusion: Fusion
    ranker: LambdaMart | None
    """None: the answer is in the order of the fusion."""
    budget: CandidatesConfig

    def candidates(self, retrieved: Mapping[str, Retrieved], k: int) -> Candidates:
        """The union of the proposals, cut by fusion score to the number of candidates for `k` tracks."""
        most = self.budget.most(k)
        unions = (unite(of_query) for of_query in each(retrieved))  # one at a time: a union is much larger than its cut
        return join([cut(union, self.fusion.score(union), most) for union in unions])

    def features(self, queries: Queries, candidates: Candidates) -> Floats | None:
        """(num_candidates, num_features) what the ranker looks at; None without one."""
        return None if self.ranker is None else self.pair_features.compute(queries, candidates)

    def scores(self, candidates: Candidates, features: Floats | None) -> Floats:
        """(num_candidates,) by the ranker, or by fusion without one."""
        return self.fusion.score(candidates) if self.ranker is None or features is None else self.ranker.score(features)

    def rank(self, queries: Queries, retrieved: Mapping[str, Retrieved], k: int) -> Answer:
        candidates = self.candidates(retrieved, k)
        return top_k(candidates, self.scores(candidates, self.features(queries, candidates)), k)


def top_k(candidates: Candidates, scores: Floats, k: int) -> Answer:
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
    """A second stage whose pair features are those of `sources`, in their order."""
    return SecondStage(PairFeatures(facts, tuple(sources), vector_spaces(sources)), fusion, ranker, budget)


def vector_spaces(sources: Mapping[str, Retriever]) -> dict[str, Space]:
    """The spaces of the sources that have track vectors."""
    vectors = {name: (source.track_vectors, source.track_biases) for name, source in sources.items()}
    return {name: Space(of_source, biases) for name, (of_source, biases) in vectors.items() if of_source is not None}


@dataclass(frozen=True)
class Pipeline:
    """Both stages of one model in this process."""

    sources: Mapping[str, Retriever]
    second: SecondStage

    def retrieve(self, queries: Queries, k: int | None = None) -> dict[str, Retrieved]:
        """The proposals of each source for an answer of `k` tracks; None: as many as for the longest answer."""
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


def rank_by_source(source: Retriever, queries: Queries, k: int) -> Ranking:
    """The ranking of one source without the second stage."""
    retrieved = source.retrieve(queries, k)
    return Ranking(retrieved.tracks, retrieved.scores)
