"""What every retriever, index and ranker promises, as classes to inherit.

    class TestMyRetriever(RetrieverContract):
        recipe = MyRecipe(dim=8)

The class attributes of a contract say what kind of thing is tested; the rest is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from features.domain import NO_TRACK, Candidates, Floats, Ints, Queries, Query, Retrieved, SegueError
from stages.protocols import Retriever
from stages.retrieve.index.protocol import Index
from stages.retrieve.index.recipe import IndexRecipe
from stages.retrieve.recipe import Recipe
from tests import oracles, worlds
from tests.worlds import Checkerboard

PLAIN = {".npy", ".safetensors", ".ann", ".txt", ".json", ".parquet"}
N = 30
ROUNDING = 1e-5


@cache
def board() -> Checkerboard:
    return worlds.checkerboard()


@cache
def fitted(recipe: Recipe) -> Retriever:
    """Recipes are frozen, so each is fitted once for all tests of its class."""
    return recipe.fit(board().visible)


def same(one: Retrieved, other: Retrieved) -> None:
    np.testing.assert_array_equal(one.tracks, other.tracks)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert (one.query_vectors is None) == (other.query_vectors is None)
    if one.query_vectors is not None:
        np.testing.assert_array_equal(one.query_vectors, other.query_vectors)


def same_but_for_rounding(one: Retrieved, other: Retrieved) -> None:
    """A matrix product of many rows may round otherwise than that of one row: near ties may change places, no more."""
    np.testing.assert_allclose(one.scores, other.scores, rtol=ROUNDING, atol=ROUNDING)
    for i, place in np.argwhere(one.tracks != other.tracks):
        near = np.isclose(one.scores[i], one.scores[i, place], rtol=ROUNDING, atol=ROUNDING)
        moved = set(one.tracks[i][near]) ^ set(other.tracks[i][near])
        assert not moved or near[-1], f"query {i}: {moved}"


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


class RetrieverContract:
    """A recipe that is fitted, asked, saved and opened."""

    recipe: ClassVar[Recipe]
    hears: ClassVar[frozenset[str]] = frozenset({"seeds"})
    """What of a query the source understands: "seeds", "title", both, or nothing, when it answers the same to all."""
    has_vectors: ClassVar[bool] = False
    proposes_cold: ClassVar[bool] = False
    """Whether a track that no playlist holds may be proposed."""
    needs_content: ClassVar[bool] = False
    continues_the_checkerboard: ClassVar[bool] = True
    needs_nobody: ClassVar[bool] = False
    """Whether it has an answer where nobody holds anything."""

    @pytest.fixture
    def retriever(self) -> Retriever:
        return fitted(self.recipe)

    @pytest.fixture
    def folder(self, retriever: Retriever, tmp_path: Path) -> Path:
        (tmp_path / "saved").mkdir()
        retriever.save(tmp_path / "saved")
        return tmp_path / "saved"

    def asked(self) -> Queries:
        """Queries of every kind: whole playlists, one seed, 250 seeds, exclusions, a title alone, nothing at all."""
        random, held = np.random.default_rng(1), board().held
        return worlds.queries(
            *(board().questions(4)[i] for i in range(4)),
            worlds.query(5),
            worlds.query(*random.permutation(board().num_held)[:250].tolist()),
            worlds.query(*held.tracks_of(1)[:3].tolist(), exclude=range(0, 100, 3)),
            worlds.query(board().num_tracks - 1, title="odd party"),
            worlds.query(title="even drive"),
            worlds.query(title="even gym", exclude=range(0, board().num_tracks, 2)),
            worlds.query(),
        )

    def understood(self, query: Query) -> bool:
        return not self.hears or bool("seeds" in self.hears and len(query.seeds)) or bool("title" in self.hears and query.title)

    # --- what is answered ---

    def test_the_checkerboard_is_continued(self, retriever: Retriever) -> None:
        if self.continues_the_checkerboard:
            assert board().precision_at_1(retriever.retrieve(board().questions(), 1).tracks[:, 0]) == 1.0

    def test_a_query_it_understands_is_answered(self, retriever: Retriever) -> None:
        asked = self.asked()
        found = retriever.retrieve(asked, N)
        for i in (0, 1, 2, 3, 4, 6):  # seeds that playlists hold, and titles they have
            assert (found.tracks[i, 0] != NO_TRACK) == self.understood(asked[i])

    def test_the_answer_has_the_promised_shape(self, retriever: Retriever) -> None:
        asked = self.asked()
        found = retriever.retrieve(asked, N)
        assert found.tracks.shape == found.scores.shape == (len(asked), N)
        assert (found.tracks.dtype, found.scores.dtype) == (np.int32, np.float32)
        assert ((found.tracks == NO_TRACK) | ((found.tracks >= 0) & (found.tracks < board().num_tracks))).all()

    def test_no_seed_and_no_excluded_track_is_proposed(self, retriever: Retriever) -> None:
        asked = self.asked()
        found = retriever.retrieve(asked, board().num_tracks)
        for i in range(len(asked)):
            assert not np.isin(asked.excluded(i), found.tracks[i]).any()

    def test_an_exclusion_makes_room_for_the_next_best(self, retriever: Retriever) -> None:
        asked = board().questions(4)
        found = retriever.retrieve(asked, N)
        left_out = worlds.queries(*(Query(asked[i].seeds, asked[i].title, found.tracks[i, ::2]) for i in range(len(asked))))
        again = retriever.retrieve(left_out, N // 2)
        np.testing.assert_array_equal(again.tracks, found.tracks[:, 1::2])

    def test_all_may_be_excluded(self, retriever: Retriever) -> None:
        everything = np.arange(board().num_tracks, dtype=np.int32)
        asked = worlds.queries(Query(everything[:3], "even gym", everything), Query(everything[::2], "even gym", everything[1::2]))
        assert (retriever.retrieve(asked, N).tracks == NO_TRACK).all()

    def test_the_best_come_first(self, retriever: Retriever) -> None:
        scores = retriever.retrieve(self.asked(), board().num_tracks).scores
        assert (scores[:, :-1] >= scores[:, 1:]).all()

    def test_equal_scores_are_in_the_order_of_the_tracks(self, retriever: Retriever) -> None:
        found = retriever.retrieve(self.asked(), board().num_tracks)
        tied = (found.scores[:, :-1] == found.scores[:, 1:]) & (found.tracks[:, 1:] != NO_TRACK)
        assert (found.tracks[:, :-1] < found.tracks[:, 1:])[tied].all()

    def test_what_is_missing_is_padding_at_the_end(self, retriever: Retriever) -> None:
        found = retriever.retrieve(self.asked(), board().num_tracks)
        padding = found.tracks == NO_TRACK
        np.testing.assert_array_equal(padding, found.scores == -np.inf)
        assert (padding[:, :-1] <= padding[:, 1:]).all()
        assert padding[:, -1].any()

    def test_scores_are_finite(self, retriever: Retriever) -> None:
        found = retriever.retrieve(self.asked(), N)
        assert np.isfinite(found.scores[found.tracks != NO_TRACK]).all()

    def test_no_track_is_proposed_twice(self, retriever: Retriever) -> None:
        for row in retriever.retrieve(self.asked(), board().num_tracks).tracks:
            proposed = row[row != NO_TRACK]
            assert len(set(proposed.tolist())) == len(proposed)

    def test_more_may_be_asked_for_than_there_are(self, retriever: Retriever) -> None:
        found = retriever.retrieve(self.asked(), 3 * board().num_tracks)
        assert found.tracks.shape == (len(self.asked()), 3 * board().num_tracks)
        assert (found.tracks[:, board().num_tracks :] == NO_TRACK).all()

    @pytest.mark.parametrize("n", [1, 7])
    def test_a_shorter_answer_is_the_head_of_a_longer_one(self, retriever: Retriever, n: int) -> None:
        short, long = (retriever.retrieve(self.asked(), length) for length in (n, N))
        np.testing.assert_array_equal(short.tracks, long.tracks[:, :n])

    def test_no_query_gets_no_answer(self, retriever: Retriever) -> None:
        found = retriever.retrieve(worlds.queries(), N)
        assert found.tracks.shape == found.scores.shape == (0, N)

    def test_who_asks_nothing_gets_padding_or_the_popular_answer(self, retriever: Retriever) -> None:
        [row] = retriever.retrieve(worlds.queries(worlds.query()), N).tracks
        if self.hears:
            assert (row == NO_TRACK).all()
        else:
            assert (row != NO_TRACK).all()

    def test_a_batch_is_answered_like_one_by_one(self, retriever: Retriever) -> None:
        asked = self.asked()
        together = retriever.retrieve(asked, N)
        for i in range(len(asked)):
            alone = retriever.retrieve(worlds.queries(asked[i]), N)
            same_but_for_rounding(alone, Retrieved(together.tracks[i : i + 1], together.scores[i : i + 1]))

    def test_a_track_that_nobody_holds_is_for_those_who_know_what_it_is_like(self, retriever: Retriever) -> None:
        found = retriever.retrieve(self.asked(), board().num_tracks).tracks
        assert (found >= board().num_held).any() == self.proposes_cold

    def test_scores_are_inner_products_where_there_is_a_space(self, retriever: Retriever) -> None:
        found = retriever.retrieve(self.asked(), N)
        vectors = retriever.track_vectors
        assert (vectors is not None, found.query_vectors is not None) == (self.has_vectors, self.has_vectors)
        if vectors is not None and found.query_vectors is not None:
            assert len(vectors) == board().num_tracks
            assert found.query_vectors.shape == (len(self.asked()), vectors.shape[1])
            expected = np.einsum("qd,qnd->qn", found.query_vectors, vectors[found.tracks])
            proposed = found.tracks != NO_TRACK
            np.testing.assert_allclose(found.scores[proposed], expected[proposed], rtol=1e-4, atol=1e-5)

    # --- what is left alone ---

    def test_queries_are_not_modified(self, retriever: Retriever) -> None:
        asked, before = self.asked(), self.asked()
        retriever.retrieve(asked, N)
        assert asked.titles == before.titles
        for one, other in ((asked.seeds, before.seeds), (asked.exclude, before.exclude)):
            np.testing.assert_array_equal(one.values, other.values)
            np.testing.assert_array_equal(one.offsets, other.offsets)

    def test_what_it_learns_from_is_not_modified(self) -> None:
        given = worlds.checkerboard(num_playlists=12, num_held=30)
        before = worlds.checkerboard(num_playlists=12, num_held=30)
        self.recipe.fit(given.visible)
        for name in ("tracks", "plays", "offsets"):
            np.testing.assert_array_equal(getattr(given.held, name), getattr(before.held, name))
        np.testing.assert_array_equal(given.visible.content, before.visible.content)

    # --- training ---

    def test_the_same_seed_gives_the_same(self, retriever: Retriever) -> None:
        again = self.recipe.fit(worlds.checkerboard().visible)
        same(again.retrieve(self.asked(), N), retriever.retrieve(self.asked(), N))

    def test_it_reports_until_all_is_done(self) -> None:
        reports: list[tuple[float, Mapping[str, float]]] = []
        self.recipe.fit(board().visible, lambda phase, done, figures: reports.append((done, figures)))
        shares = [done for done, _ in reports]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert all(np.isfinite(value) for _, figures in reports for value in figures.values())

    def test_bare_ids_are_enough(self, tmp_path: Path) -> None:
        """No content, no artist, no title: who knows only those is silent, after having been saved too."""
        bare = worlds.visible(worlds.interactions([board().held.tracks_of(i).tolist() for i in range(8)], board().num_tracks))
        found = self.recipe.fit(bare).retrieve(self.asked(), N)
        self.recipe.fit(bare).save(tmp_path)
        same(self.recipe.open(tmp_path, board().num_tracks).retrieve(self.asked(), N), found)
        assert (found.tracks[0, 0] != NO_TRACK) == (not self.needs_content)

    def test_a_world_in_which_nobody_holds_anything(self, tmp_path: Path) -> None:
        empty = board().but(interactions=worlds.interactions([[], []], board().num_tracks, ["even drive", ""]))
        retriever = self.recipe.fit(empty)
        found = retriever.retrieve(self.asked(), N)
        assert (found.tracks[0, 0] != NO_TRACK) == self.needs_nobody
        retriever.save(tmp_path)
        same(self.recipe.open(tmp_path, board().num_tracks).retrieve(self.asked(), N), found)

    # --- on disk ---

    def test_saved_and_opened_it_answers_the_same(self, retriever: Retriever, folder: Path) -> None:
        opened = self.recipe.open(folder, board().num_tracks)
        same(opened.retrieve(self.asked(), N), retriever.retrieve(self.asked(), N))
        if retriever.track_vectors is not None:
            np.testing.assert_array_equal(opened.track_vectors, retriever.track_vectors)

    def test_files_are_plain(self, folder: Path) -> None:
        assert {path.suffix for path in files_of(folder)} <= PLAIN
        assert files_of(folder)

    def test_the_manifest_is_told_what_it_is(self, retriever: Retriever, tmp_path: Path) -> None:
        said = retriever.save(tmp_path)
        assert isinstance(said["kind"], str)
        if retriever.track_vectors is not None:
            assert said["dimension"] == retriever.track_vectors.shape[1]
            assert said["index"] in ("exact", "annoy")

    def test_another_number_of_tracks_is_refused(self, folder: Path) -> None:
        with pytest.raises(SegueError, match=f"expected .*{board().num_tracks + 1}.*found .*{board().num_tracks}"):
            self.recipe.open(folder, board().num_tracks + 1)

    def test_a_file_cut_short_is_refused(self, folder: Path) -> None:
        for path in files_of(folder):
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            with pytest.raises(SegueError, match=r"expected .*found ") as caught:
                self.recipe.open(folder, board().num_tracks)
            assert path.name in str(caught.value)
            path.write_bytes(whole)


class IndexContract:
    """An index that is built, searched, saved and opened."""

    recipe: ClassVar[IndexRecipe]
    least_recall: ClassVar[float] = 1.0

    @staticmethod
    def vectors(rows: int = 3_000, dim: int = 16) -> Floats:
        """Like those of ALS: lengths that differ by some hundred times, and directions in groups."""
        random = np.random.default_rng(3)
        groups = random.normal(size=(20, dim))
        directions = groups[random.integers(20, size=rows)] + random.normal(size=(rows, dim))
        lengths = random.lognormal(0, 1.5, rows)
        return (directions * lengths[:, None] / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)

    @staticmethod
    def asked(count: int = 20) -> Queries:
        random = np.random.default_rng(4)
        chosen = [random.integers(3_000, size=(5, 2)) for _ in range(count)]
        return worlds.queries(*(worlds.query(*set(pairs[:, 0].tolist()), exclude=set(pairs[:, 1].tolist())) for pairs in chosen))

    def query_vectors(self, asked: Queries) -> Floats:
        vectors = self.vectors()
        return np.stack([vectors[asked.seeds_of(i)].mean(axis=0) for i in range(len(asked))])

    def built(self, vectors: Floats, tracks: Ints | None = None) -> Index:
        return self.recipe.build(vectors, np.arange(len(vectors), dtype=np.int32) if tracks is None else tracks, seed=5)

    @pytest.mark.parametrize("n", [1, 10, 300])
    def test_it_finds_what_the_oracle_finds(self, n: int) -> None:
        asked = self.asked()
        wanted = self.query_vectors(asked)
        found = self.built(self.vectors()).search(wanted, asked, n)
        hits = 0
        for i in range(len(asked)):
            expected = oracles.nearest(self.vectors(), range(3_000), wanted[i], set(asked.excluded(i).tolist()), n)
            hits += len({track for track, _ in expected} & set(found.tracks[i].tolist()))
        assert hits / (n * len(asked)) >= self.least_recall

    def test_scores_are_exact(self) -> None:
        asked = self.asked()
        found = self.built(self.vectors()).search(self.query_vectors(asked), asked, 20)
        expected = np.einsum("qd,qnd->qn", self.query_vectors(asked), self.vectors()[found.tracks])
        np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-4)

    def test_only_the_given_tracks_are_found(self) -> None:
        tracks = np.arange(7, 3_000, 11, dtype=np.int32)
        found = self.built(self.vectors(), tracks).search(self.query_vectors(self.asked()), self.asked(), 500)
        assert set(found.tracks.ravel().tolist()) - {NO_TRACK} <= set(tracks.tolist())
        assert (found.tracks[:, 0] != NO_TRACK).all()

    def test_a_query_vector_of_zeros_asks_nothing(self) -> None:
        asked = self.asked(3)
        wanted = self.query_vectors(asked)
        wanted[1] = 0
        found = self.built(self.vectors()).search(wanted, asked, 5)
        assert (found.tracks[1] == NO_TRACK).all()
        assert (found.tracks[[0, 2]] != NO_TRACK).all()

    @pytest.mark.parametrize("tracks", [0, 1, 2])
    def test_few_tracks_are_enough(self, tmp_path: Path, tracks: int) -> None:
        index = self.built(self.vectors()[:5], np.arange(tracks, dtype=np.int32))
        index.save(tmp_path)
        asked = worlds.queries(worlds.query())
        for one in (index, self.recipe.open(tmp_path, self.vectors()[:5])):
            found = one.search(np.ones((1, 16), np.float32), asked, 4).tracks
            assert set(found[0].tolist()) - {NO_TRACK} == set(range(tracks))

    def test_vectors_of_zeros_may_be_found_and_score_0(self) -> None:
        vectors = np.zeros((6, 4), np.float32)
        vectors[2] = -1
        found = self.built(vectors).search(np.ones((1, 4), np.float32), worlds.queries(worlds.query(0)), 10)
        assert found.tracks[0].tolist() == [1, 3, 4, 5, 2] + [NO_TRACK] * 5
        assert found.scores[0, :5].tolist() == [0, 0, 0, 0, -4]

    def test_saved_and_opened_it_finds_the_same(self, tmp_path: Path) -> None:
        index, asked = self.built(self.vectors()), self.asked()
        said = index.save(tmp_path)
        assert said["index"] == ("annoy" if self.recipe.kind == "annoy" else "exact")
        opened = self.recipe.open(tmp_path, self.vectors())
        same(opened.search(self.query_vectors(asked), asked, 20), index.search(self.query_vectors(asked), asked, 20))

    def test_the_folder_tells_its_kind_whatever_the_recipe(self, tmp_path: Path) -> None:
        index, asked = self.built(self.vectors(300)), worlds.queries(worlds.query(4))
        index.save(tmp_path)
        for kind in ("auto", "exact", "annoy"):
            opened = IndexRecipe(kind=kind).open(tmp_path, self.vectors(300))  # type: ignore[arg-type]
            same(opened.search(self.vectors()[:1], asked, 20), index.search(self.vectors()[:1], asked, 20))

    @pytest.mark.parametrize(
        "said", ["", "{", "[]", '{"kind": "faiss"}', '{"kind": "annoy", "search_nodes": "many"}', '{"kind": "exact", "x": 1}']
    )
    def test_a_folder_of_no_known_kind_is_refused(self, tmp_path: Path, said: str) -> None:
        self.built(self.vectors(50)).save(tmp_path)
        (tmp_path / "index.json").write_text(said, encoding="utf-8")
        with pytest.raises(SegueError, match=r"index\.json: expected an index of kind exact or annoy, found ") as caught:
            self.recipe.open(tmp_path, self.vectors(50))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("dim", [1, 15, 17, 32])
    def test_another_dimension_is_refused(self, tmp_path: Path, dim: int) -> None:
        self.built(self.vectors(200)).save(tmp_path)
        with pytest.raises(SegueError, match=f"expected .*{dim}.*found .*16"):
            self.recipe.open(tmp_path, self.vectors(200, dim))

    def test_arrays_that_do_not_belong_together_are_refused(self, tmp_path: Path) -> None:
        self.built(self.vectors(200)).save(tmp_path)
        np.save(tmp_path / "index_tracks.npy", np.arange(199, dtype=np.int32))
        with pytest.raises(SegueError, match=r"expected .*199.*found .*200|expected .*200.*found .*199"):
            self.recipe.open(tmp_path, self.vectors(200))

    def test_vectors_other_than_it_was_built_over_are_refused(self, tmp_path: Path) -> None:
        self.built(self.vectors(200)).save(tmp_path)
        with pytest.raises(SegueError, match=r"index_tracks\.npy: expected numbers from 0 to 198, found 199 at place "):
            self.recipe.open(tmp_path, self.vectors(200)[:199])


@dataclass(frozen=True)
class Planted:
    """Candidates of some queries, of which those that source `good` puts first are the hidden ones, mostly."""

    candidates: Candidates
    features: Floats
    labels: Ints
    names: tuple[str, ...] = ("good.rank", "noise", "bad.rank")

    @classmethod
    def of(cls, num_queries: int, per_query: int = 40, seed: int = 0) -> Planted:
        random = np.random.default_rng(seed)
        good, bad = (np.concatenate([1 + random.permutation(per_query) for _ in range(num_queries)]).astype(np.int32) for _ in range(2))
        labels = (random.random(len(good)) < np.where(good <= 8, 0.9, 0.02)).astype(np.int32)
        tracks = np.tile(np.arange(per_query, dtype=np.int32), num_queries)
        offsets = np.arange(num_queries + 1, dtype=np.int64) * per_query
        ranks = np.stack([good, bad])
        features = np.stack([good, random.normal(size=len(good)), bad], axis=1).astype(np.float32)
        return cls(Candidates(tracks, offsets, ("good", "bad"), ranks, (-ranks).astype(np.float32), {}), features, labels)

    def part(self, i: int) -> Planted:
        """Query `i` alone."""
        rows = slice(self.candidates.offsets[i], self.candidates.offsets[i + 1])
        offsets = np.array([0, len(self.labels[rows])], np.int64)
        ranks, scores = self.candidates.ranks[:, rows], self.candidates.scores[:, rows]
        candidates = Candidates(self.candidates.tracks[rows], offsets, self.candidates.sources, ranks, scores, {})
        return Planted(candidates, self.features[rows], self.labels[rows])

    def parts(self) -> Iterator[Planted]:
        return (self.part(i) for i in range(len(self.candidates)))

    def ndcg(self, scores: Floats) -> float:
        """The mean nDCG@10 of the order that `scores` make."""
        found = []
        for start, stop in zip(self.candidates.offsets[:-1], self.candidates.offsets[1:], strict=True):
            order = np.argsort(-scores[start:stop], kind="stable").tolist()
            found.append(oracles.ndcg(order, set(np.flatnonzero(self.labels[start:stop]).tolist()), 10))
        return float(np.nanmean(found))


class RankerContract:
    """Something that scores candidates: a subclass says how it is made, asked and kept."""

    least_ndcg: ClassVar[float] = 0.9

    def trained(self, planted: Planted) -> Any:
        raise NotImplementedError

    def score(self, ranker: Any, planted: Planted) -> Floats:
        raise NotImplementedError

    def kept(self, ranker: Any, folder: Path) -> Any:
        """Saved into `folder` and opened again."""
        raise NotImplementedError

    def test_every_candidate_has_a_finite_score(self) -> None:
        asked = Planted.of(5, seed=1)
        scores = self.score(self.trained(Planted.of(60)), asked)
        assert (scores.shape, scores.dtype) == ((len(asked.labels),), np.float32)
        assert np.isfinite(scores).all()

    def test_no_candidate_has_no_score(self) -> None:
        scores = self.score(self.trained(Planted.of(60)), Planted.of(2, per_query=0))
        assert (scores.shape, scores.dtype) == ((0,), np.float32)

    def test_a_planted_signal_is_found(self) -> None:
        asked = Planted.of(40, seed=1)
        assert asked.ndcg(self.score(self.trained(Planted.of(60)), asked)) >= self.least_ndcg
        assert asked.ndcg(asked.features[:, 1]) < 0.5  # what noise reaches

    def test_the_same_seed_gives_the_same(self) -> None:
        asked = Planted.of(5, seed=1)
        one, other = (self.score(self.trained(Planted.of(60)), asked) for _ in range(2))
        np.testing.assert_array_equal(one, other)

    def test_a_query_is_scored_the_same_whoever_else_asks(self) -> None:
        ranker, asked = self.trained(Planted.of(60)), Planted.of(6, seed=1)
        alone = np.concatenate([self.score(ranker, part) for part in asked.parts()])
        np.testing.assert_array_equal(alone, self.score(ranker, asked))

    def test_candidates_are_not_modified(self) -> None:
        asked, before = Planted.of(5, seed=1), Planted.of(5, seed=1)
        self.score(self.trained(Planted.of(60)), asked)
        np.testing.assert_array_equal(asked.features, before.features)
        np.testing.assert_array_equal(asked.candidates.ranks, before.candidates.ranks)

    def test_saved_and_opened_it_scores_the_same(self, tmp_path: Path) -> None:
        ranker, asked = self.trained(Planted.of(60)), Planted.of(5, seed=1)
        np.testing.assert_array_equal(self.score(self.kept(ranker, tmp_path), asked), self.score(ranker, asked))
        assert {path.suffix for path in files_of(tmp_path)} <= PLAIN


QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
)
"""For properties over small worlds."""
