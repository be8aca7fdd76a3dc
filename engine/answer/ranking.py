"""Ranks a mixed batch: each query may have its own k, a fixed candidate set, or ask for explanations.

Input: queries, what the sources propose for them, RankOptions for each. Output: one RankedAnswer per query, the same whatever
the batch: the number of candidates depends on k, so queries are ranked together with those of the same number only.
Independent of HTTP, of track names and of filters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine.pipeline import Answer, SecondStage, top_k
from features.domain import NO_TRACK, Candidates, Floats, Ints, Queries, Retrieved
from features.unit_length import unit_rows
from stages.retrieve.union import unite

Check = Callable[[], None]
"""Called between the steps of the work; raises where nobody waits for the answer any more."""
MAX_REASONS = 5
"""Features in an explanation."""
MAX_SIMILAR_SEEDS = 3
"""Seed tracks in an explanation."""
EXPLAINED_AT_ONCE = 128
"""Tracks between two checks."""
_GIVEN = "given"


@dataclass(frozen=True)
class RankOptions:
    """How one query is ranked."""

    k: int
    """Tracks asked for; decides how many candidates are ranked."""
    length: int
    """Tracks to return: k, or more where a later step chooses among them."""
    candidates: Ints | None = None
    """Rank exactly these tracks; None: rank what the sources propose."""
    explain: bool = False


@dataclass(frozen=True)
class Explanation:
    """Why one track is in the answer."""

    features: tuple[tuple[str, float], ...]
    """(pair feature, what it adds to the score), the largest effect first."""
    similar_seeds: tuple[int, ...]
    """The seed tracks it is most similar to, the most similar first."""


def _no_tracks() -> Ints:
    return np.empty(0, np.int32)


def _no_scores() -> Floats:
    return np.empty(0, np.float32)


@dataclass(frozen=True)
class RankedAnswer:
    """The answer to one query: `n` tracks, best first, without padding."""

    tracks: Ints = field(default_factory=_no_tracks)
    """(n,)"""
    scores: Floats = field(default_factory=_no_scores)
    """(n,) comparable within this answer only."""
    ranks: Mapping[str, Ints] = field(default_factory=dict)
    """Per source (n,): the rank from 1 at which it proposed the track, 0 where it did not."""
    explanations: tuple[Explanation, ...] = ()
    """One per track where they were asked for."""
    num_candidates: int = 0
    """Tracks that were ranked for this query."""

    @classmethod
    def of(cls, answer: Answer, i: int, length: int | None = None) -> RankedAnswer:
        """The first `length` tracks for query `i` of a batch; None: all of them."""
        tracks = answer.ranking.tracks[i, :length]
        n = int((tracks != NO_TRACK).sum())  # padding comes last
        ranks = {source: of_source[i, :n] for source, of_source in answer.ranks.items()}
        return cls(tracks[:n], answer.ranking.scores[i, :n], ranks)

    def pick(self, places: Ints) -> RankedAnswer:
        """The tracks at `places`, in that order."""
        ranks = {source: of_source[places] for source, of_source in self.ranks.items()}
        explanations = tuple(self.explanations[place] for place in places) if self.explanations else ()
        return RankedAnswer(self.tracks[places], self.scores[places], ranks, explanations, self.num_candidates)


def go_on() -> None:
    """The Check of work that is always done to the end."""


def rank_each(
    second: SecondStage,
    queries: Queries,
    retrieved: Mapping[str, Retrieved],
    rank_options: Sequence[RankOptions],
    check: Check = go_on,
) -> list[RankedAnswer]:
    """One RankedAnswer per query, in their order."""
    groups = _groups(second, rank_options)
    if len(groups) == 1:
        return _rank_group(second, queries, retrieved, rank_options, check)
    ranked: dict[int, RankedAnswer] = {}
    for rows in groups:
        group = Queries.of(queries[i] for i in rows)
        proposed = {source: result.take(rows) for source, result in retrieved.items()}
        ranked |= zip(rows, _rank_group(second, group, proposed, [rank_options[i] for i in rows], check), strict=True)
    return [ranked[i] for i in range(len(rank_options))]


def _groups(second: SecondStage, rank_options: Sequence[RankOptions]) -> list[list[int]]:
    """The rows of the queries that may be ranked together."""
    groups: dict[int, list[int]] = {}
    for i, options in enumerate(rank_options):
        groups.setdefault(-1 if options.candidates is not None else second.budget.most(options.k), []).append(i)
    return list(groups.values())


def _rank_group(
    second: SecondStage, queries: Queries, retrieved: Mapping[str, Retrieved], rank_options: Sequence[RankOptions], check: Check
) -> list[RankedAnswer]:
    check()
    candidates = _candidates(second, retrieved, rank_options)
    check()
    features = second.features(queries, candidates)
    check()
    best = top_k(candidates, second.scores(candidates, features), max(options.length for options in rank_options))
    answers = []
    for i, options in enumerate(rank_options):
        ranked = RankedAnswer.of(best, i, options.length)
        explanations = _explanations(second, features, queries, candidates, i, ranked.tracks, check) if options.explain else ()
        answers.append(replace(ranked, explanations=tuple(explanations), num_candidates=int(candidates.counts()[i])))
    return answers


def _candidates(second: SecondStage, retrieved: Mapping[str, Retrieved], rank_options: Sequence[RankOptions]) -> Candidates:
    if rank_options[0].candidates is None:
        return second.candidates(retrieved, rank_options[0].k)
    return fixed_candidates(retrieved, [options.candidates for options in rank_options if options.candidates is not None])


def fixed_candidates(retrieved: Mapping[str, Retrieved], tracks: Sequence[Ints]) -> Candidates:
    """Exactly the given `tracks` of each query, with the ranks and scores of the sources that propose them."""
    given = np.full((len(tracks), max(len(of_query) for of_query in tracks)), NO_TRACK, np.int32)
    for i, of_query in enumerate(tracks):
        given[i, : len(of_query)] = of_query
    proposed = {source: restrict(result, tracks) for source, result in retrieved.items()}
    union = unite({**proposed, _GIVEN: Retrieved(given, np.zeros(given.shape, np.float32))})
    return replace(union, sources=union.sources[:-1], ranks=union.ranks[:-1], scores=union.scores[:-1])


def restrict(result: Retrieved, allowed: Sequence[Ints]) -> Retrieved:
    """The proposals among the `allowed` tracks of their query; the others become padding in place, so that ranks do not change."""
    kept = np.stack([np.isin(tracks, of_query) for tracks, of_query in zip(result.tracks, allowed, strict=True)])
    return replace(result, tracks=np.where(kept, result.tracks, NO_TRACK).astype(np.int32))


def _explanations(
    second: SecondStage, features: Floats | None, queries: Queries, candidates: Candidates, i: int, tracks: Ints, check: Check
) -> Iterator[Explanation]:
    """One for each of `tracks`, which are candidates of query `i`; none without a ranker."""
    if second.ranker is None or features is None:
        return
    start, stop = candidates.offsets[i], candidates.offsets[i + 1]
    rows = start + np.searchsorted(candidates.tracks[start:stop], tracks)
    names, similar = second.pair_features.names, _similar_seeds(second, queries.seeds_of(i), tracks)
    for first in range(0, len(tracks), EXPLAINED_AT_ONCE):
        check()
        contributions = second.ranker.contributions(features[rows[first : first + EXPLAINED_AT_ONCE]])
        top = np.argsort(-np.abs(contributions), axis=1, kind="stable")[:, :MAX_REASONS]
        values = np.take_along_axis(contributions, top, axis=1)
        for places, effects, seeds in zip(top.tolist(), values.tolist(), similar[first : first + EXPLAINED_AT_ONCE], strict=True):
            yield Explanation(tuple((names[place], effect) for place, effect in zip(places, effects, strict=True)), seeds)


def _similar_seeds(second: SecondStage, seeds: Ints, tracks: Ints) -> list[tuple[int, ...]]:
    """For each track the most similar seeds in the first vector space of the model, the most similar first, ties by place."""
    space = next(iter(second.pair_features.spaces.values()), None)
    if space is None or not len(seeds):
        return [() for _ in tracks]
    cosines = unit_rows(space.vectors[tracks]) @ unit_rows(space.vectors[seeds]).T  # (tracks, seeds)
    nearest = np.empty((len(tracks), min(MAX_SIMILAR_SEEDS, len(seeds))), np.int64)
    for place in range(nearest.shape[1]):
        nearest[:, place] = np.argmax(cosines, axis=1)
        np.put_along_axis(cosines, nearest[:, place : place + 1], -np.inf, axis=1)
    return [tuple(row) for row in seeds[nearest].tolist()]
