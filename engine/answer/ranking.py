"""The second stage for a batch whose queries want different things: another length, a given set of tracks, reasons.

Input: queries, what the sources proposed, one Want each. Output: one Ranked each, the same whoever travels along: how
many candidates are ranked depends on k, so queries are ranked beside those of the same budget only.
Knows no network, no name and no filter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.pipeline import Answer, SecondStage, answer
from features.domain import NO_TRACK, Candidates, Ints, Queries, Ranking, Retrieved
from features.unit_length import unit_rows
from stages.retrieve import topk
from stages.retrieve.union import unite

REASONS = 5
"""Features named in an explanation."""
LIKE = 3
"""Seeds named in an explanation."""
_GIVEN = "given"


@dataclass(frozen=True)
class RankOptions:
    """What one query is to be answered with."""

    k: int
    """Decides how many candidates are ranked."""
    length: int
    """Tracks to answer with: k, or more where something is chosen from them afterwards."""
    among: Ints | None = None
    """Rank these tracks and no others, however little speaks for them."""
    explain: bool = False


@dataclass(frozen=True)
class Explanation:
    """What speaks for one track: (feature, what it adds to the score), largest first; the seeds it is most like."""

    features: tuple[tuple[str, float], ...]
    like: tuple[int, ...]


@dataclass(frozen=True)
class RankedAnswer:
    """The answer to one query."""

    answer: Answer
    """Of one query."""
    explanations: tuple[Explanation, ...] = ()
    """One a track where reasons were wanted."""
    candidates: int = 0
    """Tracks that were ranked for it."""

    @property
    def count(self) -> int:
        """Tracks in the answer."""
        return int((self.answer.ranking.tracks[0] != NO_TRACK).sum())


def nothing(k: int) -> Answer:
    """An answer to one query without a track."""
    ranking = topk.empty(1, k)
    return Answer(Ranking(ranking.tracks, ranking.scores), {})


def pick(ranked: RankedAnswer, places: Ints, k: int) -> RankedAnswer:
    """The tracks at `places`, at most k, in that order; room for k."""
    answer = nothing(k)
    answer.ranking.tracks[0, : len(places)] = ranked.answer.ranking.tracks[0, places]
    answer.ranking.scores[0, : len(places)] = ranked.answer.ranking.scores[0, places]
    ranks = {source: np.zeros((1, k), np.int32) for source in ranked.answer.ranks}
    for source, of_source in ranked.answer.ranks.items():
        ranks[source][0, : len(places)] = of_source[0, places]
    explanations = tuple(ranked.explanations[place] for place in places) if ranked.explanations else ()
    return RankedAnswer(Answer(answer.ranking, ranks), explanations, ranked.candidates)


def rank_each(
    second: SecondStage, queries: Queries, retrieved: Mapping[str, Retrieved], options: Sequence[RankOptions]
) -> list[RankedAnswer]:
    """One Ranked a query, in their order."""
    groups = _alike(second, options)
    if len(groups) == 1:
        return _rank_alike(second, queries, retrieved, options)
    ranked: dict[int, RankedAnswer] = {}
    for rows in groups:
        of_rows = Queries.of(queries[i] for i in rows)
        of_sources = {source: result.take(rows) for source, result in retrieved.items()}
        ranked |= zip(rows, _rank_alike(second, of_rows, of_sources, [options[i] for i in rows]), strict=True)
    return [ranked[i] for i in range(len(options))]


def _rank_alike(
    second: SecondStage, queries: Queries, retrieved: Mapping[str, Retrieved], options: Sequence[RankOptions]
) -> list[RankedAnswer]:
    candidates = _candidates(second, retrieved, options)
    best = answer(candidates, second.scores(queries, candidates), max(option.length for option in options))
    return [_one(second, queries, candidates, best, i, option) for i, option in enumerate(options)]


def _alike(second: SecondStage, options: Sequence[RankOptions]) -> list[list[int]]:
    """The rows of each group that may be ranked side by side."""
    groups: dict[int, list[int]] = {}
    for i, option in enumerate(options):
        groups.setdefault(-1 if option.among is not None else second.budget.most(option.k), []).append(i)
    return list(groups.values())


def _candidates(second: SecondStage, retrieved: Mapping[str, Retrieved], options: Sequence[RankOptions]) -> Candidates:
    if options[0].among is None:
        return second.candidates(retrieved, options[0].k)
    return among(retrieved, [option.among for option in options if option.among is not None])


def among(retrieved: Mapping[str, Retrieved], given: Sequence[Ints]) -> Candidates:
    """The `given` tracks of each query as candidates, each with what the sources say of it, and no others."""
    tracks = np.full((len(given), max(len(of_query) for of_query in given)), NO_TRACK, np.int32)
    for i, of_query in enumerate(given):
        tracks[i, : len(of_query)] = of_query
    restricted = {source: only(result, given) for source, result in retrieved.items()}
    union = unite({**restricted, _GIVEN: Retrieved(tracks, np.zeros(tracks.shape, np.float32))})
    return replace(union, sources=union.sources[:-1], ranks=union.ranks[:-1], scores=union.scores[:-1])


def only(result: Retrieved, allowed: Sequence[Ints]) -> Retrieved:
    """The proposals that are among the `allowed` tracks of their query; the others leave a gap, so that ranks stay."""
    kept = np.stack([np.isin(tracks, of_query) for tracks, of_query in zip(result.tracks, allowed, strict=True)])
    return replace(result, tracks=np.where(kept, result.tracks, NO_TRACK).astype(np.int32))


def _one(second: SecondStage, queries: Queries, candidates: Candidates, best: Answer, i: int, option: RankOptions) -> RankedAnswer:
    ranks = {source: of_source[i : i + 1, : option.length] for source, of_source in best.ranks.items()}
    ranking = Ranking(best.ranking.tracks[i : i + 1, : option.length], best.ranking.scores[i : i + 1, : option.length])
    count = int(candidates.offsets[i + 1] - candidates.offsets[i])
    tracks = ranking.tracks[0][ranking.tracks[0] != NO_TRACK]
    explanations = tuple(_explanations(second, queries, candidates, i, tracks)) if option.explain else ()
    return RankedAnswer(Answer(ranking, ranks), explanations, count)


def _explanations(second: SecondStage, queries: Queries, candidates: Candidates, i: int, tracks: Ints) -> Iterator[Explanation]:
    """Of each of `tracks`, candidates of query `i`."""
    if second.ranker is None or not len(tracks):
        return
    start, stop = candidates.offsets[i], candidates.offsets[i + 1]
    rows = start + np.searchsorted(candidates.tracks[start:stop], tracks)
    added = second.ranker.contributions(second.pair_features.compute(queries, candidates)[rows])
    names, likes = second.pair_features.names, _like(second, queries.seeds_of(i), tracks)
    for values, like in zip(added, likes, strict=True):
        top = np.argsort(-np.abs(values), kind="stable")[:REASONS]
        yield Explanation(tuple((names[place], float(values[place])) for place in top), like)


def _like(second: SecondStage, seeds: Ints, tracks: Ints) -> list[tuple[int, ...]]:
    """The seeds nearest to each track in the first vector space there is, nearest first."""
    space = next(iter(second.pair_features.spaces.values()), None)
    if space is None or not len(seeds):
        return [() for _ in tracks]
    cosines = unit_rows(space.vectors[tracks]) @ unit_rows(space.vectors[seeds]).T  # (tracks, seeds)
    return [tuple(seeds[row].tolist()) for row in np.argsort(-cosines, axis=1, kind="stable")[:, :LIKE]]
