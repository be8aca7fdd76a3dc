"""Time limits, versions and degraded answers, with stages that the tests control."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

from engine.answer import api
from engine.answer.filters import allowed_tracks, fill_with_popular, limit_proposals
from engine.answer.ranking import RankedAnswer, RankOptions, rank_each
from engine.answer.similar import SimilarTracks
from engine.answer.track_search import TrackSearch
from engine.artifact import Artifact, open_artifact
from engine.model import Model, open_source, source_names
from engine.serve.breaker import FAILURES, PING_EVERY_S, PING_TIMEOUT_S
from engine.serve.gateway import Gateway, TooSlow
from engine.serve.local_stages import Abandoned, Job, LocalRanker, LocalSources, fusion_only, open_ranker, open_sources
from engine.serve.model_cache import ModelRef, WrongVersion, open_ref
from engine.serve.orchestrator import Limits, Orchestrator, PendingQuery, SourceGroup, StageAnswer
from engine.serve.protocols import Proposals, Terms
from engine.serve.telemetry import NoTelemetry
from features.domain import NO_TRACK, Queries, Query, Retrieved, SegueError


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def asked(*seeds: int, title: str = "", exclude: tuple[int, ...] = ()) -> Query:
    return Query(ints(*seeds), title, ints(*exclude))


def options(k: int) -> RankOptions:
    return RankOptions(k, k)


# -- the orchestrator -------------------------------------------------------------------------------------------------


class Watched:
    """A stage that counts its calls, and may be slow, broken, or of another version."""

    def __init__(self, stage: Any, delay: float = 0.0, error: Exception | None = None) -> None:
        self.stage, self.delay, self.error = stage, delay, error
        self.sizes, self.terms = list[int](), list[Terms]()

    async def prepare(self, model: ModelRef) -> None:
        await self.stage.prepare(model)

    async def ping(self, version: str) -> str:
        await asyncio.sleep(self.delay)
        return str(await self.stage.ping(version))

    async def retrieve(self, version: str, queries: Queries, n: int, terms: Terms) -> Proposals:
        self.terms.append(terms)
        self.sizes.append(len(queries))
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        result: Proposals = await self.stage.retrieve(version, queries, n, terms)
        return result

    async def rank(
        self, version: str, queries: Queries, retrieved: Mapping[str, Retrieved], rank_options: Sequence[RankOptions], terms: Terms
    ) -> list[RankedAnswer]:
        self.terms.append(terms)
        self.sizes.append(len(queries))
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        result: list[RankedAnswer] = await self.stage.rank(version, queries, retrieved, rank_options, terms)
        return result


@pytest.fixture(scope="module")
def artifact(tiny_artifact: Path) -> Artifact:
    return open_artifact(tiny_artifact)


@dataclass(frozen=True)
class Stages:
    """Every source in a stage of its own, two that share one, and the ranker."""

    sources: dict[tuple[str, ...], LocalSources]
    ranker: LocalRanker


@pytest.fixture(scope="module")
def stages(artifact: Artifact) -> Stages:
    together = ("artist", "popularity")
    groups = [*((name,) for name in source_names(artifact) if name not in together), together]
    opened = Stages({names: LocalSources(names[0], lambda _, names=names: names, 1) for names in groups}, LocalRanker())
    model = ModelRef(str(artifact.path), artifact.manifest.version)
    for stage in (*opened.sources.values(), opened.ranker):
        asyncio.run(stage.prepare(model))
    return opened


class World:
    """An orchestrator over watched stages."""

    def __init__(self, artifact: Artifact, stages: Stages, limits: Limits) -> None:
        self.groups = [SourceGroup(names, Watched(stage)) for names, stage in stages.sources.items()]
        self.sources: dict[str, Any] = {name: group.stage for group in self.groups for name in group.names}
        self.ranker = Watched(stages.ranker)
        self.fallback = fusion_only(artifact)
        self.orchestrator = Orchestrator(artifact.manifest.version, self.groups, self.ranker, self.fallback, limits)

    def ask(self, *items: PendingQuery) -> list[StageAnswer]:
        async def together() -> list[StageAnswer]:
            return await asyncio.gather(*(self.orchestrator.answer(item) for item in items))

        return asyncio.run(together())


LIMITS = Limits(source_timeout_s=0.5, ranker_timeout_s=1.0, deadline_s=5.0)


@pytest.fixture
def watched(artifact: Artifact, stages: Stages) -> World:
    return World(artifact, stages, LIMITS)


QUERIES = (asked(3, 8, 21), asked(title="road trip"), asked(40, title="jazz"), asked(), asked(5, 6, exclude=(0, 1, 2, 3)))


def test_the_answer_is_that_of_the_pipeline(watched: World, tiny_model: Model) -> None:
    for query in QUERIES:
        (told,) = watched.ask(PendingQuery(query, options(10)))
        expected = tiny_model.pipeline.recommend(Queries.of([query]), 10)
        assert [told.ranked.tracks.tolist()] == expected.ranking.tracks.tolist()
        assert [told.ranked.scores.tolist()] == expected.ranking.scores.tolist()
        assert {name: [ranks.tolist()] for name, ranks in told.ranked.ranks.items()} == {
            name: ranks.tolist() for name, ranks in expected.ranks.items()
        }
        assert told.degraded == ()


def test_every_batch_is_measured(artifact: Artifact, stages: Stages) -> None:
    heard: list[tuple[str, object]] = []

    class Heard(NoTelemetry):
        def record_batch(self, size: int) -> None:
            heard.append(("batch", size))

        def record_stage(self, name: str, seconds: float) -> None:
            assert 0 < seconds < 60
            heard.append(("stage", name))

        def record_candidates(self, count: int) -> None:
            heard.append(("candidates", count))

        def record_degraded(self, name: str) -> None:
            heard.append(("degraded", name))

    groups = [SourceGroup(names, Watched(stage)) for names, stage in stages.sources.items()]
    next(group.stage for group in groups if group.names == ("title",)).error = RuntimeError("gone")  # type: ignore[attr-defined]
    orchestrator = Orchestrator(artifact.manifest.version, groups, stages.ranker, fusion_only(artifact), LIMITS, Heard())
    asyncio.run(orchestrator.answer(PendingQuery(QUERIES[0], options(10))))
    assert ("batch", 1) in heard
    assert ("candidates", 50) in heard
    assert [what for what in heard if what[0] == "degraded"] == [("degraded", "title")]
    assert {name for kind, name in heard if kind == "stage"} == {*source_names(artifact), "ranker"} - {"title"}


def test_a_batch_costs_each_stage_one_call(watched: World) -> None:
    watched.ask(*(PendingQuery(query, options(10)) for query in QUERIES))
    assert all(source.sizes == [len(QUERIES)] for source in watched.sources.values())
    assert watched.ranker.sizes == [len(QUERIES)]


def test_who_travels_along_changes_nothing(watched: World, tiny_model: Model) -> None:
    """Different k means different numbers of candidates: each query is ranked as if it were alone.

    Compared with a batch of two: a BLAS rounds the product with one vector otherwise than that with many.
    """
    lengths = (1, 10, 100, 200, 25)
    told = watched.ask(*(PendingQuery(query, options(k)) for query, k in zip(QUERIES, lengths, strict=True)))
    for one, query, k in zip(told, QUERIES, lengths, strict=True):
        expected = tiny_model.pipeline.recommend(Queries.of([query, query]), k).ranking
        assert one.ranked.tracks.tolist() == [track for track in expected.tracks[0].tolist() if track != NO_TRACK]
        assert 0 < len(one.ranked.tracks) <= k


@pytest.mark.parametrize("how", ["slow", "broken", "of another version"])
def test_a_source_that_does_not_answer_is_left_out_and_named(watched: World, tiny_model: Model, how: str) -> None:
    source = watched.sources["als"]
    if how == "slow":
        source.delay = 5.0
    elif how == "broken":
        source.error = RuntimeError("disk on fire")
    else:
        source.stage = LocalSources("als", lambda _: ("als",), 1)
    (told,) = watched.ask(PendingQuery(QUERIES[0], options(10)))
    assert told.degraded == ("als",)
    assert len(told.ranked.tracks) == 10
    assert "als" not in told.ranked.ranks
    retrieved = {name: one for name, one in tiny_model.pipeline.retrieve(Queries.of([QUERIES[0]]), 10).items() if name != "als"}
    expected = tiny_model.pipeline.second.rank(Queries.of([QUERIES[0]]), retrieved, 10)
    assert [told.ranked.tracks.tolist()] == expected.ranking.tracks.tolist()


@pytest.mark.parametrize("how", ["slow", "broken"])
def test_without_the_ranker_the_fusion_is_the_order(watched: World, tiny_model: Model, how: str) -> None:
    watched.ranker.delay, watched.ranker.error = (5.0, None) if how == "slow" else (0.0, SegueError("no"))
    told = watched.ask(*(PendingQuery(query, options(10)) for query in QUERIES))
    queries = Queries.of(QUERIES)
    expected = replace(tiny_model.pipeline.second, ranker=None).rank(queries, tiny_model.pipeline.retrieve(queries, 10), 10)
    for i, one in enumerate(told):
        assert one.degraded == ("ranker",)
        assert one.ranked.tracks.tolist() == expected.ranking.tracks[i].tolist()


def test_without_any_source_nothing_is_proposed_and_all_are_named(watched: World) -> None:
    for source in watched.sources.values():
        source.error = RuntimeError("gone")
    (told,) = watched.ask(PendingQuery(QUERIES[0], options(10)))
    assert len(told.ranked.tracks) == 0
    assert set(told.degraded) == set(watched.sources)


def test_what_is_left_of_the_time_travels_along_and_what_is_late_says_nothing_of_a_stage(watched: World) -> None:
    late = [PendingQuery(QUERIES[0], options(10), deadline=time.monotonic() + 0.2)] * 5
    watched.sources["title"].delay = 0.3
    for one in late:
        watched.ask(replace(one, deadline=time.monotonic() + 0.2))
    assert all(0 < terms.timeout <= 0.2 for terms in watched.ranker.terms + watched.sources["title"].terms)
    watched.sources["title"].delay = 0.0
    assert watched.ask(PendingQuery(QUERIES[0], options(10)))[0].degraded == ()


def test_a_stage_known_to_be_down_is_not_waited_for_and_is_back_when_it_answers(watched: World) -> None:
    async def story() -> None:
        source = watched.sources["als"]
        source.delay = 5.0
        for _ in range(FAILURES):
            assert (await watched.orchestrator.answer(PendingQuery(QUERIES[0], options(10)))).degraded == ("als",)
        start = time.monotonic()
        assert (await watched.orchestrator.answer(PendingQuery(QUERIES[0], options(10)))).degraded == ("als",)
        assert time.monotonic() - start < LIMITS.source_timeout_s / 2
        assert len(source.sizes) == FAILURES
        source.delay = 0.0
        await asyncio.sleep(PING_TIMEOUT_S + 2 * PING_EVERY_S)
        assert (await watched.orchestrator.answer(PendingQuery(QUERIES[0], options(10)))).degraded == ()

    asyncio.run(story())


def test_no_ordinary_query_waits_for_a_large_one(watched: World) -> None:
    """A large one is asked for on other terms, and may be as slow as it likes."""
    large = PendingQuery(Query(np.arange(300, dtype=np.int32)), RankOptions(500, 500, explain=True))
    ranker, slow = watched.ranker, asyncio.Event()

    class Waits(Watched):
        async def rank(self, *call: Any) -> list[RankedAnswer]:
            if call[-1].large:
                await slow.wait()
            return await super().rank(*call)

    watched.orchestrator = Orchestrator(
        watched.orchestrator.version, watched.groups, Waits(ranker.stage), watched.fallback, replace(LIMITS, in_flight=1)
    )

    async def story() -> None:
        expensive = asyncio.create_task(watched.orchestrator.answer(large))
        await asyncio.sleep(0.05)
        assert len((await watched.orchestrator.answer(PendingQuery(QUERIES[0], options(10)))).ranked.tracks) == 10
        assert not expensive.done()
        slow.set()
        assert len((await expensive).ranked.tracks) > 100

    asyncio.run(story())


def test_work_that_nobody_waits_for_ends_at_its_next_step(stages: Stages, artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(60.0)
    job.check()
    job.abandon()
    with pytest.raises(Abandoned):
        job.check()
    with pytest.raises(Abandoned):
        Job(0.0).check()
    scored = list[int]()
    second = open_ranker(artifact)
    monkeypatch.setattr(type(second), "features", lambda *_: time.sleep(0.3))
    monkeypatch.setattr(type(second), "scores", lambda *_: scored.append(1))

    async def story() -> None:
        queries = Queries.of(QUERIES[:1])
        retrieved = {"popularity": Retrieved(np.arange(10, dtype=np.int32)[None], np.zeros((1, 10), np.float32))}
        call = stages.ranker.rank(artifact.manifest.version, queries, retrieved, [options(10)], Terms(60.0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.1)
        await stages.ranker.ping(artifact.manifest.version)  # its only thread is free again

    asyncio.run(story())
    assert scored == []


def test_readiness_asks_every_stage(watched: World, tiny_model: Model) -> None:
    assert set(asyncio.run(watched.orchestrator.stage_states()).values()) == {"ok"}
    watched.sources["title"].delay = 5.0
    watched.sources["als"].stage = LocalSources("als", lambda _: ("als",), 1)
    said = asyncio.run(watched.orchestrator.stage_states())
    assert said["title"] == "no answer within 0.5 s"
    assert "found none" in said["als"]
    assert said["ranker"] == "ok"


def test_sources_that_are_asked_together_fail_together(watched: World) -> None:
    watched.sources["artist"].error = RuntimeError("gone")
    (told,) = watched.ask(PendingQuery(QUERIES[0], options(10)))
    assert told.degraded == ("artist", "popularity")


def test_of_sources_asked_together_one_may_fail_and_one_be_late(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = LocalSources("some", lambda _: ("slim", "title", "popularity"), 3)
    version = artifact.manifest.version
    asyncio.run(stage.prepare(ModelRef(str(artifact.path), version)))
    slim, title = open_source(artifact, "slim"), open_source(artifact, "title")
    monkeypatch.setattr(type(slim), "retrieve", lambda *_: 1 / 0)
    monkeypatch.setattr(type(title), "retrieve", lambda *_: time.sleep(0.5))
    proposed = asyncio.run(stage.retrieve(version, Queries.of([asked(3)]), 60, Terms(0.1)))
    assert list(proposed.retrieved) == ["popularity"]
    assert proposed.failures == {"slim": "division by zero", "title": "no answer within 0.1 s"}


def test_a_stage_refuses_a_version_that_it_does_not_hold(stages: Stages, tiny_artifact: Path) -> None:
    with pytest.raises(WrongVersion, match="expected model other, found "):
        asyncio.run(stages.ranker.ping("other"))
    with pytest.raises(WrongVersion, match="expected model other, found "):
        open_ref(ModelRef(str(tiny_artifact), "other"))


def compiled_loops() -> dict[str, int]:
    """Of every loop of ours, for how many types of arguments it is compiled."""
    loops = (loop for loop in gc.get_objects() if type(loop) is CPUDispatcher)
    return {f"{loop.py_func.__module__}.{loop.py_func.__name__}": len(loop.signatures) for loop in loops}


def test_after_the_warm_up_nothing_is_compiled_while_somebody_waits(artifact: Artifact, stages: Stages) -> None:
    """Not for lone queries, sources that are missing, one candidate or none: each type of array would cost seconds."""
    sources, second = open_sources(artifact, source_names(artifact)), open_ranker(artifact)
    before = compiled_loops()
    for queries in (Queries.of(QUERIES), Queries.of(QUERIES[:1]), Queries.of([asked()])):
        retrieved = {name: source.retrieve(queries, 60) for name, source in sources.items()}
        masks = [np.arange(artifact.manifest.num_tracks) % 2 == 0] * len(queries)
        masked = limit_proposals(retrieved, [60] * len(queries), masks)
        none = {"popularity": Retrieved(np.full((len(queries), 1), NO_TRACK, np.int32), np.zeros((len(queries), 1), np.float32))}
        for proposed in (retrieved, masked, {name: retrieved[name] for name in ("title", "als")}, none):
            for one in (options(10), RankOptions(1, 1, ints(7)), RankOptions(3, 3, ints(7, 8, 9), explain=True)):
                rank_each(second, queries, proposed, [one] * len(queries))
    assert compiled_loops() == before


# -- mixed batches --------------------------------------------------------------------------------------------------


def test_given_candidates_are_ranked_and_no_others(tiny_model: Model) -> None:
    queries = Queries.of(QUERIES)
    given = ints(400, 3, 17, 90)  # a seed of the first query, and tracks nobody may have proposed
    rank_options = [RankOptions(4, 4, given) if i % 2 == 0 else options(5) for i in range(len(QUERIES))]
    ranked = rank_each(tiny_model.pipeline.second, queries, tiny_model.pipeline.retrieve(queries), rank_options)
    for i in (0, 2, 4):
        assert sorted(ranked[i].tracks.tolist()) == [3, 17, 90, 400]
        assert set(ranked[i].ranks) == set(tiny_model.pipeline.sources)
    assert ranked[1].tracks.shape == (5,)


def test_reasons_are_features_and_seeds(tiny_model: Model) -> None:
    queries = Queries.of(QUERIES[:2])
    rank_options = [RankOptions(5, 5, explain=True), RankOptions(5, 5, explain=True)]
    seeded, titled = rank_each(tiny_model.pipeline.second, queries, tiny_model.pipeline.retrieve(queries), rank_options)
    assert len(seeded.explanations) == len(titled.explanations) == 5
    assert all(set(why.similar_seeds) == {3, 8, 21} for why in seeded.explanations)
    assert all(why.similar_seeds == () for why in titled.explanations)
    names = set(tiny_model.pipeline.second.pair_features.names)
    assert all({name for name, _ in why.features} <= names for why in seeded.explanations)


# -- filters, nearness, search ----------------------------------------------------------------------------------------


def test_a_filter_holds_where_all_of_it_is_known_to_hold(tiny_model: Model) -> None:
    table = tiny_model.names.catalog.table
    genre = next(genre for genre in table["genre"].to_list() if genre)
    filters = api.Filters(genre=[genre.upper()], energy=api.Range(min=0.2, max=0.9))
    mask = allowed_tracks(tiny_model.names.catalog, filters)
    rows = zip(table["genre"], table["energy"], strict=True)
    expected = [of_genre == genre and energy is not None and 0.2 <= energy <= 0.9 for of_genre, energy in rows]
    assert mask.tolist() == expected
    assert allowed_tracks(tiny_model.names.catalog, api.Filters()).all()
    assert not allowed_tracks(tiny_model.names.catalog, api.Filters(artist=["nobody of that name"])).any()


def test_what_is_not_allowed_leaves_a_gap_so_that_ranks_stay() -> None:
    retrieved = {"a": Retrieved(np.array([[4, 2, NO_TRACK], [4, 2, 1]], np.int32), np.zeros((2, 3), np.float32))}
    mask = np.array([True, True, True, True, False])
    kept = limit_proposals(retrieved, [3, 3], [mask, None])["a"].tracks
    assert kept.tolist() == [[NO_TRACK, 2, NO_TRACK], [4, 2, 1]]


def test_an_answer_is_filled_up_with_the_popular_order_of_what_is_allowed() -> None:
    mask = np.array([True, True, False, True, True, True])
    filled = fill_with_popular(RankedAnswer(), 4, asked(0, exclude=(3,)), mask, 6)
    assert filled.tracks.tolist() == [1, 4, 5]
    assert (np.diff(filled.scores) < 0).all()
    assert filled.ranks["popularity"].tolist() == [2, 5, 6]


def test_the_popular_order_is_the_order_of_the_vocabulary(tiny_model: Model) -> None:
    popular = tiny_model.pipeline.sources["popularity"].retrieve(Queries.of([asked()]), 60).tracks[0]
    assert popular.tolist() == list(range(60))


def test_the_nearest_tracks_are_the_largest_cosines(artifact: Artifact, tiny_model: Model) -> None:
    similar_tracks = SimilarTracks.open(artifact)
    space, tracks, cosines = similar_tracks.nearest(3, 10)
    vectors = tiny_model.pipeline.sources["als"].track_vectors
    assert vectors is not None
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    wanted = unit @ unit[3]
    wanted[3] = -np.inf
    assert space == "als"
    assert set(tracks.tolist()) <= set(np.argsort(-wanted)[:30].tolist())
    assert (np.diff(cosines) <= 0).all()
    assert 3 not in tracks


def test_a_track_nobody_has_played_is_near_by_content(artifact: Artifact) -> None:
    similar_tracks = SimilarTracks.open(artifact)
    held = similar_tracks.known["als"].copy()
    held[7] = False
    cold = replace(similar_tracks, known={**similar_tracks.known, "als": held})
    assert cold.nearest(7, 5)[0] == "content"
    assert 7 not in cold.nearest(3, 499)[1]
    with pytest.raises(SegueError, match="expected a track with vectors in als or content"):
        replace(cold, known={"als": held, "content": held}).nearest(7, 5)


def test_variety_costs_score_and_keeps_the_first(artifact: Artifact) -> None:
    similar_tracks = SimilarTracks.open(artifact)
    tracks, scores = np.arange(50, dtype=np.int32), np.linspace(1, 0, 50, dtype=np.float32)
    assert similar_tracks.diversify(tracks, scores, 10, 0.0).tolist() == list(range(10))
    varied = similar_tracks.diversify(tracks, scores, 10, 0.7)
    assert varied[0] == 0
    assert len(set(varied.tolist())) == 10
    assert _likeness(similar_tracks, varied) < _likeness(similar_tracks, np.arange(10))


def _likeness(similar_tracks: SimilarTracks, tracks: np.ndarray) -> float:
    space = similar_tracks.spaces["als"]
    unit = space.vectors[tracks] / space.lengths[tracks][:, None]
    return float((unit @ unit.T).mean())


def test_search_finds_every_word_whatever_the_case(tiny_model: Model) -> None:
    search, table = TrackSearch(tiny_model.names), tiny_model.names.catalog.table
    artist, title = table["artist"][7], table["title"][7]
    found = search.find(f"{artist.upper()} {title.lower()}", 500)
    assert 7 in found
    assert all(artist.lower() in f"{table['artist'][int(i)]} {table['title'][int(i)]}".lower() for i in found)
    assert (np.diff(found) > 0).all()
    assert search.find(tiny_model.names.vocabulary.ids([11])[0], 5).tolist() == [11]
    assert len(search.find("   ", 5)) == len(search.find("no track is called this", 5)) == 0


# -- the gateway ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gateway(artifact: Artifact, stages: Stages) -> Gateway:
    return Gateway.open(artifact, [SourceGroup(names, stage) for names, stage in stages.sources.items()], stages.ranker, Limits())


def recommend(gateway: Gateway, **request: Any) -> api.Recommended:
    return asyncio.run(gateway.recommend(api.Recommend(**request), "id"))


def test_a_filtered_answer_is_full_wherever_there_are_so_many(gateway: Gateway, tiny_model: Model) -> None:
    filters = {"energy": {"min": 0.8}}
    mask = allowed_tracks(tiny_model.names.catalog, api.Filters.model_validate(filters))
    seeds = tiny_model.names.vocabulary.ids([3, 8, 21])
    left = int(mask.sum()) - int(mask[[3, 8, 21]].sum())
    answer = recommend(gateway, tracks=seeds, k=500, filters=filters)
    found = tiny_model.names.vocabulary.index_of([track.track_id for track in answer.tracks])
    assert len(found) == len(set(found.tolist())) == left
    assert mask[found].all()
    assert not set(found.tolist()) & {3, 8, 21}
    assert [track.score for track in answer.tracks] == sorted((track.score for track in answer.tracks), reverse=True)


def test_no_filter_and_an_empty_one_are_the_same(gateway: Gateway, tiny_model: Model) -> None:
    seeds = tiny_model.names.vocabulary.ids([3, 8, 21])
    assert recommend(gateway, tracks=seeds).tracks == recommend(gateway, tracks=seeds, filters={}).tracks
    assert len(recommend(gateway, tracks=seeds, k=50, filters={}).tracks) == 50


def test_exclusions_never_come_back(gateway: Gateway, tiny_model: Model) -> None:
    popular = [track.track_id for track in recommend(gateway, k=20).tracks]
    for filters in (None, {}):
        rest = recommend(gateway, k=500, exclude=popular, filters=filters)
        assert not {track.track_id for track in rest.tracks} & set(popular)
    assert len(rest.tracks) == min(500, tiny_model.artifact.manifest.num_tracks - 20)


def test_a_varied_answer_has_k_tracks_and_reasons_of_its_own(gateway: Gateway, tiny_model: Model) -> None:
    seeds = tiny_model.names.vocabulary.ids([3, 8])
    plain = recommend(gateway, tracks=seeds, k=10, explain=True)
    varied = recommend(gateway, tracks=seeds, k=10, diversity=0.8, explain=True)
    assert len(plain.tracks) == len(varied.tracks) == 10
    assert [one.track_id for one in plain.tracks] != [one.track_id for one in varied.tracks]
    assert all(one.why and len(one.why.features) == 5 and one.why.like for one in varied.tracks)


def test_the_deadline_counts_from_the_arrival(artifact: Artifact, stages: Stages) -> None:
    groups = [SourceGroup(names, Watched(stage)) for names, stage in stages.sources.items()]
    gateway = Gateway.open(artifact, groups, stages.ranker, Limits(source_timeout_s=2.0, deadline_s=0.5))
    assert recommend(gateway, k=3).degraded == []
    with pytest.raises(TooSlow, match=r"within 0\.5 s"):
        asyncio.run(gateway.recommend(api.Recommend(k=3), "id", arrived=time.monotonic() - 0.6))
    groups[0].stage.delay = 1.0  # type: ignore[attr-defined]
    start = time.monotonic()
    with pytest.raises(TooSlow, match=r"within 0\.5 s"):
        asyncio.run(gateway.recommend(api.Recommend(k=3), "id", arrived=start - 0.3))
    assert time.monotonic() - start < 0.4


def test_all_sources_gone_leaves_the_popular_order(artifact: Artifact, stages: Stages) -> None:
    broken = [SourceGroup(names, Watched(stage, error=RuntimeError("gone"))) for names, stage in stages.sources.items()]
    answer = recommend(Gateway.open(artifact, broken, stages.ranker, Limits()), k=3, exclude=[])
    assert answer.degraded == list(source_names(artifact))
    assert [track.sources for track in answer.tracks] == [{"popularity": 1}, {"popularity": 2}, {"popularity": 3}]
