"""Every pair feature equals its slow twin, whoever asks, whatever is missing, before and after it was saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import pairs
from features.domain import Candidates, Queries, SegueError
from features.interactions import evenly_thinned
from features.pairs import Facts, PairFeatures, Space
from tests import oracles, worlds
from tests.oracles import PlainQuery, PlainWorld

QUICK = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUM_TRACKS, DIM = 10, 3
SOURCES = ("als", "title", "artist")
"""Of these als and artist have a space."""

NAMES = st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=NUM_TRACKS, max_size=NUM_TRACKS)
VECTOR = st.tuples(*[st.integers(-2, 2)] * DIM)
VECTORS = st.lists(VECTOR, min_size=NUM_TRACKS, max_size=NUM_TRACKS)
TRACKS = st.lists(st.integers(0, NUM_TRACKS - 1), unique=True)
PROPOSED = st.dictionaries(st.integers(0, NUM_TRACKS - 1), st.integers(-4, 8).map(lambda score: score / 2), max_size=6)


@st.composite
def plain_worlds(draw: st.DrawFn) -> PlainWorld:
    playlists = draw(st.lists(st.sets(st.integers(0, NUM_TRACKS - 1)), min_size=1, max_size=6))
    return PlainWorld(playlists, draw(NAMES), draw(NAMES), {"als": draw(VECTORS), "artist": draw(VECTORS)})


@st.composite
def plain_queries(draw: st.DrawFn, answering: frozenset[str]) -> PlainQuery:
    """`answering`: the sources that are not degraded. At least one proposes something only if Hypothesis wants so."""
    seeds, title = draw(TRACKS.map(lambda tracks: tracks[:7])), draw(st.sampled_from(["", " ", "summer"]))
    proposed = {}
    for source in SOURCES:
        if source in answering:
            scores = draw(PROPOSED)
            ordered = oracles.best_first(scores.items(), NUM_TRACKS)
            proposed[source] = {track: (rank, score) for rank, (track, score) in enumerate(ordered, start=1)}
    searched = {name: draw(VECTOR) for name in ("als", "artist") if name in answering}
    return PlainQuery(seeds, title, proposed, searched)


@dataclass(frozen=True)
class ResolvedQuery:
    """The same twice: plainly, and as the program has it."""

    world: PlainWorld
    plain: list[PlainQuery]
    features: PairFeatures
    queries: Queries
    candidates: Candidates

    def alone(self, i: int) -> ResolvedQuery:
        return asked_of(self.world, [self.plain[i]])


@st.composite
def asked(draw: st.DrawFn) -> ResolvedQuery:
    answering = draw(st.frozensets(st.sampled_from(SOURCES), min_size=1))
    return asked_of(draw(plain_worlds()), draw(st.lists(plain_queries(answering), max_size=4)) or [draw(plain_queries(answering))])


def facts_of(world: PlainWorld) -> Facts:
    held = worlds.interactions([sorted(playlist) for playlist in world.playlists], NUM_TRACKS)
    # an album is one of its artist: in the plain world all albums are by nobody in particular
    described = worlds.catalog(NUM_TRACKS, artist=world.artists, album=world.albums)
    albums = worlds.catalog(NUM_TRACKS, album=world.albums).albums
    facts = Facts.of(held, described)
    return replace(facts, albums=albums)


def features_of(world: PlainWorld, facts: Facts | None = None) -> PairFeatures:
    spaces = {name: Space(np.array(vectors, np.float32)) for name, vectors in world.spaces.items()}
    return PairFeatures(facts or facts_of(world), SOURCES, spaces)


def asked_of(world: PlainWorld, plain: list[PlainQuery]) -> ResolvedQuery:
    rows = [sorted({track for of_source in query.proposed.values() for track in of_source}) for query in plain]
    entries = [(query, track) for query, row in zip(plain, rows, strict=True) for track in row]
    answering = plain[0].proposed
    missing = (0, float("nan"))
    candidates = worlds.candidates(
        [track for _, track in entries],
        [0, *accumulate(len(row) for row in rows)],
        {name: [query.proposed[name].get(track, missing)[0] for query, track in entries] for name in answering},
        {name: [query.proposed[name].get(track, missing)[1] for query, track in entries] for name in answering},
        {name: np.array([query.searched[name] for query in plain], np.float32) for name in plain[0].searched},
    )
    queries = worlds.queries(*(worlds.query(*query.seeds, title=query.title) for query in plain))
    return ResolvedQuery(world, plain, features_of(world), queries, candidates)


@QUICK
@given(what=asked())
def test_every_feature_is_what_the_oracle_says(what: ResolvedQuery) -> None:
    computed = what.features.compute(what.queries, what.candidates)
    assert (computed.shape, computed.dtype) == ((len(what.candidates.tracks), len(what.features.names)), np.float32)
    for row, track, i in zip(computed, what.candidates.tracks.tolist(), what.candidates.query_of().tolist(), strict=True):
        expected = oracles.pair_features(what.world, what.plain[i], track, SOURCES)
        assert tuple(expected) == what.features.names
        for name, found in zip(what.features.names, row.tolist(), strict=True):
            assert found == pytest.approx(expected[name], rel=1e-4, abs=1e-4, nan_ok=True), name


@QUICK
@given(what=asked())
def test_a_query_has_the_same_features_whoever_else_asks(what: ResolvedQuery) -> None:
    together = what.features.compute(what.queries, what.candidates)
    for i in range(len(what.plain)):
        alone = what.alone(i)
        rows = slice(what.candidates.offsets[i], what.candidates.offsets[i + 1])
        np.testing.assert_array_equal(alone.features.compute(alone.queries, alone.candidates), together[rows])


@QUICK
@given(what=asked())
def test_a_source_that_did_not_answer_is_nan_in_its_own_columns(what: ResolvedQuery) -> None:
    computed = what.features.compute(what.queries, what.candidates)
    for source in set(SOURCES) - set(what.candidates.sources):
        silent = [i for i, name in enumerate(what.features.names) if name.startswith(f"{source}.") and "seed" not in name]
        assert len(silent) in (3, 5)  # a space can still tell candidates from seeds
        assert np.isnan(computed[:, silent]).all()


@QUICK
@given(what=asked())
def test_saved_and_opened_facts_give_the_same_features(tmp_path: Path, what: ResolvedQuery) -> None:
    what.features.facts.save(tmp_path)
    opened = features_of(what.world, Facts.open(tmp_path, len(what.features.facts.artists)))
    before, after = (features.compute(what.queries, what.candidates) for features in (what.features, opened))
    np.testing.assert_array_equal(after, before)


@QUICK
@given(what=asked())
def test_what_is_asked_is_not_modified(what: ResolvedQuery) -> None:
    before = what.candidates.tracks.copy(), what.candidates.ranks.copy(), what.queries.seeds.values.copy()
    what.features.compute(what.queries, what.candidates)
    np.testing.assert_array_equal(what.candidates.tracks, before[0])
    np.testing.assert_array_equal(what.queries.seeds.values, before[2])
    np.testing.assert_array_equal(what.candidates.ranks, before[1])


def test_names_are_those_of_the_sources_then_of_the_spaces_and_all_different() -> None:
    names = features_of(PlainWorld([set()], [None] * 10, [None] * 10, {"als": [(0,) * DIM] * 10})).names
    assert names[:4] == ("als.score", "als.rank", "als.relative_score", "title.score")
    assert [name for name in names if name.startswith("als.")][3:] == [f"als.{name}" for name in pairs.SPACE_FEATURES]
    assert len(set(names)) == len(names)


def test_no_query_and_no_candidate_make_a_table_without_rows() -> None:
    features = features_of(PlainWorld([{1}], ["a"] * 10, ["x"] * 10, {"als": [(1,) * DIM] * 10}))
    for count in (0, 2):
        candidates = worlds.candidates([], [0] * (count + 1), {"als": []})
        assert features.compute(worlds.queries(*[worlds.query(1)] * count), candidates).shape == (0, len(features.names))


def test_two_artists_may_call_an_album_the_same() -> None:
    described = worlds.catalog(4, artist=["a", "b", "a", None], album=["Best of", "Best of", "Best of", None])
    assert described.albums.tolist() == [0, 1, 0, -1]


@QUICK
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=5), most=st.integers(1, 12))
def test_a_popular_track_is_judged_by_an_even_sample_of_its_playlists(lengths: list[int], most: int) -> None:
    columns = np.concatenate([np.arange(length) for length in lengths] + [np.empty(0, int)])
    whole = sp.csr_matrix((np.full(len(columns), 7.0, np.float32), columns, np.cumsum([0, *lengths])), shape=(len(lengths), 30))
    thin = evenly_thinned(whole, most)
    for row, length in enumerate(lengths):
        kept = thin.indices[thin.indptr[row] : thin.indptr[row + 1]].tolist()
        assert len(kept) == min(length, most)
        assert kept == sorted(set(kept))
        gaps = np.diff([*kept, length]) if kept else np.array([1])
        assert kept[:1] == ([0] if length else [])
        assert gaps.max() - gaps.min() <= 1  # evenly
    assert (thin.data == 1).all()


def test_most_postings_bounds_what_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "MOST_POSTINGS", 5)
    facts = Facts.of(worlds.interactions([[0, i % 3 + 1] for i in range(40)], 4), worlds.catalog(4))
    assert facts.postings.lengths().tolist() == [5, 5, 5, 5]
    assert facts.counts.tolist() == [40, 14, 13, 13]  # what is counted is all of it


@pytest.mark.parametrize("name", ["artists", "albums", "counts", "postings.indices", "postings.indptr"])
def test_damaged_facts_are_refused(tmp_path: Path, name: str) -> None:
    Facts.of(worlds.interactions([[0, 1], [1]], 3), worlds.catalog(3)).save(tmp_path)
    path = tmp_path / f"{name}.npy"
    whole = path.read_bytes()
    for length in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(SegueError, match=r"expected .*, found ") as caught:
            Facts.open(tmp_path, 3)
        assert path.name in str(caught.value)
    np.save(path, np.ones(7))
    with pytest.raises(SegueError, match=r"expected .*, found float64 \(7\)"):
        Facts.open(tmp_path, 3)


def test_a_space_with_biases_adds_them() -> None:
    facts = Facts.of(worlds.interactions([[0, 1], [1, 2]], 3), worlds.catalog(3))
    vectors, biases = np.eye(3, dtype=np.float32), np.array([0.5, -1, 2], np.float32)
    plain, biased = (PairFeatures(facts, ("a",), {"a": Space(vectors, own)}) for own in (None, biases))
    candidates = worlds.candidates([2, 0], [0, 2], {"a": [1, 2]})
    column = biased.names.index("a.track_bias")
    assert (*biased.names[:column], *biased.names[column + 1 :]) == plain.names
    assert biased.compute(worlds.queries(worlds.query(1)), candidates)[:, column].tolist() == [2, 0.5]


def test_tracks_of_the_same_vector_have_a_cosine_of_1_whatever_rounding_makes_of_it() -> None:
    random = np.random.default_rng(0)
    vectors = np.repeat(random.normal(size=(50, 129)).astype(np.float32), 2, axis=0)
    facts = Facts.of(worlds.interactions([[0, 1], [1, 2]], 100), worlds.catalog(100))
    features = PairFeatures(facts, ("a",), {"a": Space(vectors)})
    candidates = worlds.candidates(range(0, 100, 2), [0, 50], {"a": range(1, 51)})
    computed = features.compute(worlds.queries(worlds.query(*range(1, 100, 2))), candidates)
    assert (computed[:, features.names.index("a.seed_cosine_max")] == 1).all()


def test_company_is_counted_over_thousands_of_playlists() -> None:
    """So many that a table of them has collisions, and more seeds than Hypothesis likes to draw."""
    random = np.random.default_rng(0)
    held = [random.choice(60, size=12, replace=False).tolist() for _ in range(3_000)]
    facts = Facts.of(worlds.interactions(held, 60), worlds.catalog(60))
    features = PairFeatures(facts, ("a",), {})
    seeds, tracks = range(40), range(40, 60)
    computed = features.compute(worlds.queries(worlds.query(*seeds)), worlds.candidates(tracks, [0, 20], {"a": range(1, 21)}))
    of_track = [set(facts.postings.row(track).tolist()) for track in range(len(facts.postings))]

    def cosine(one: int, other: int) -> float:
        return float(len(of_track[one] & of_track[other]) / np.sqrt(len(of_track[one]) * len(of_track[other])))

    cosines = np.array([[cosine(track, seed) for seed in seeds] for track in tracks])
    expected = np.stack([cosines.max(axis=1), cosines.mean(axis=1), cosines[:, -5:].mean(axis=1)], axis=1)
    first = features.names.index("company.company_max")
    np.testing.assert_allclose(computed[:, first : first + 3], expected, rtol=1e-5)
