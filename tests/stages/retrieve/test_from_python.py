"""From a notebook: natural guesses work, a wrong one gets one line that says what was expected and what was found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from features.dataset import Dataset
from features.domain import NO_TRACK, Queries, Retrieved, SegueError
from features.frames import dataset_of
from features.ingest import ingest
from features.vocabulary import Vocabulary
from stages.retrieve.als import Als, AlsRecipe
from stages.retrieve.autoencoder import AutoencoderRecipe
from stages.retrieve.catalogue import AlbumRecipe, ArtistRecipe, PopularityRecipe, RelatedRecipe
from stages.retrieve.content import ContractiveRecipe, CosineRecipe, TransformerRecipe
from stages.retrieve.factorization import FactorizationRecipe
from stages.retrieve.fitting import fit
from stages.retrieve.index import IndexRecipe
from stages.retrieve.item_item import GraphRecipe, SlimRecipe
from stages.retrieve.playlists import NeighboursRecipe, TitleRecipe
from stages.retrieve.recipe import Recipe
from stages.retrieve.source import Source
from stages.training_data import as_training_data
from tests import worlds
from tests.contracts import board, fitted, same

ROOT = Path(__file__).parents[3]
QUICK = AlsRecipe(factors=8, iterations=4, alpha=10)
EVERY_KIND: dict[str, Recipe] = {
    "als": QUICK,
    "als by annoy": AlsRecipe(factors=8, iterations=2, index=IndexRecipe(kind="annoy")),
    "related": RelatedRecipe(als=AlsRecipe(factors=4, iterations=2)),
    "autoencoder": AutoencoderRecipe(dim=4, epochs=1, negatives=50),
    "factorization": FactorizationRecipe(factors=4, epochs=1, negatives=50),
    "cosine": CosineRecipe(),
    "contractive": ContractiveRecipe(dim=4, epochs=1),
    "transformer": TransformerRecipe(dim=4, heads=2, layers=1, epochs=1),
    "graph": GraphRecipe(),
    "slim": SlimRecipe(),
    "neighbours": NeighboursRecipe(),
    "title": TitleRecipe(),
    "artist": ArtistRecipe(),
    "album": AlbumRecipe(),
    "popularity": PopularityRecipe(),
}
NOTEBOOK = """
from features.dataset import Dataset
from stages.retrieve.als import AlsRecipe

data = Dataset.open({path!r})
als = AlsRecipe(factors=8).fit(data)
print(als)
for track_id, score in als.retrieve(data.query({track!r}), 10).named(data.vocabulary):
    print(track_id, round(score, 3))
"""


@pytest.fixture(scope="module")
def even() -> Dataset:
    """The checkerboard's pairs as a dataset on its own: tracks are called t0, t1, …"""
    return worlds.dataset(board().held)


def pairs(dataset: Dataset) -> pl.DataFrame:
    held = dataset.interactions
    owners = np.repeat(np.arange(held.num_playlists), held.lengths())
    return pl.DataFrame({"playlist": [f"p{owner}" for owner in owners], "track": dataset.vocabulary.ids(held.tracks)})


# --- what a fit takes ---


def test_five_lines_and_two_imports_are_enough(tmp_path: Path) -> None:
    table = pairs(worlds.dataset(board().held)).rename({"playlist": "playlist_id", "track": "track_id"})
    table.write_parquet(tmp_path / "playlists.parquet")
    ingest([tmp_path / "playlists.parquet"], tmp_path / "dataset")
    code = NOTEBOOK.format(path=str(tmp_path / "dataset"), track="t0")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200, check=True)
    shown, *rows = done.stdout.splitlines()
    assert shown == "<Als: 280 tracks x 8 factors, exact index>"
    assert len(rows) == 10
    assert all(int(row.split()[0].removeprefix("t")) % 2 == 0 for row in rows)


def test_training_data_are_taken_as_they_are() -> None:
    assert as_training_data(board().visible) is board().visible


def test_a_dataset_and_its_interactions_give_the_same_source(even: Dataset) -> None:
    one, other = QUICK.fit(even), fit(QUICK, even.interactions)
    np.testing.assert_array_equal(one.track_vectors, other.track_vectors)


def test_a_dataset_brings_its_content() -> None:
    source = CosineRecipe().fit(board().dataset())
    assert source.track_vectors is not None
    assert source.track_vectors.any(axis=1).all()


@pytest.mark.parametrize("library", ["polars", "pandas", "scipy"])
def test_pairs_are_enough(even: Dataset, library: str) -> None:
    table = pairs(even)
    given: Any = {"polars": table, "pandas": table.to_pandas(), "scipy": sp.csr_matrix(even.interactions.matrix)}[library]
    data = dataset_of(given)
    source = QUICK.fit(given)
    assert isinstance(source, Als)
    assert len(source.track_vectors) == len(data.vocabulary)
    first = data.vocabulary.ids([0])[0]
    found = source.retrieve(data.query(first), 10).named(data.vocabulary)
    assert len(found) == 10
    assert {int(track.removeprefix("t")) % 2 for track, _ in found} == {int(first.removeprefix("t")) % 2}


@pytest.mark.parametrize("data", ["dataset", Path("dataset"), [("p", "t")], np.zeros((2, 2)), None, 3])
def test_other_data_are_refused_in_one_line(data: Any) -> None:
    with pytest.raises(
        SegueError, match=rf"fit: expected TrainingData, a Dataset, .* found {type(data).__name__}\. Open a dataset"
    ) as caught:
        QUICK.fit(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "found"), [(AlsRecipe, "the class AlsRecipe"), ("als", "str"), (IndexRecipe(), "IndexRecipe"), (None, "NoneType")]
)
def test_what_is_no_recipe_is_refused_in_one_line(recipe: Any, found: str, even: Dataset) -> None:
    with pytest.raises(SegueError, match=rf"fit: expected a recipe such as AlsRecipe\(\), found {found}$"):
        fit(recipe, even)


def test_a_kind_of_recipe_that_nothing_fits_is_refused(even: Dataset) -> None:
    class OddRecipe(Recipe):
        kind: str = "odd"

        def read(self, folder: Path, num_tracks: int) -> Source:
            raise NotImplementedError

    with pytest.raises(SegueError, match="fit: expected a recipe with a registered fit function, found OddRecipe"):
        fit(OddRecipe(), even)


# --- what is asked and answered ---


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_one_query_is_answered_as_a_batch_of_one(kind: str) -> None:
    source, query = fitted(EVERY_KIND[kind]), board().questions(1)[0]
    assert isinstance(source, Source)
    same(source.retrieve(query, 5), source.retrieve(Queries.of([query]), 5))


def test_an_answer_is_named_without_padding(even: Dataset) -> None:
    source = QUICK.fit(even)
    found = source.retrieve(even.query("t0", exclude=[f"t{track}" for track in range(4, 280)]), 10)
    assert (found.tracks == NO_TRACK).any()
    named = found.named(even.vocabulary)
    assert {track for track, _ in named} == {"t1", "t2", "t3"}
    assert [score for _, score in named] == sorted((score for _, score in named), reverse=True)


def test_a_batch_is_named_query_by_query(even: Dataset) -> None:
    first, other = QUICK.fit(even).retrieve(Queries.of([even.query("t0"), even.query("t1")]), 3).named(even.vocabulary)
    assert [len(first), len(other)] == [3, 3]
    assert {int(track.removeprefix("t")) % 2 for track, _ in first} == {0}
    assert {int(track.removeprefix("t")) % 2 for track, _ in other} == {1}


@pytest.mark.parametrize("queries", ["t0", ["t0"], np.array([0]), 3, None])
def test_what_is_no_query_is_refused_in_one_line(queries: Any) -> None:
    source = fitted(QUICK)
    with pytest.raises(SegueError, match=rf"retrieve: expected a Query or Queries, found {type(queries).__name__}\. Make one") as caught:
        source.retrieve(queries, 3)
    assert "\n" not in str(caught.value)


# --- what is saved and shown ---


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_path_may_be_text_and_its_folder_is_made(kind: str, tmp_path: Path) -> None:
    source, folder = fitted(EVERY_KIND[kind]), str(tmp_path / "sources" / kind)
    assert isinstance(source, Source)
    source.save(folder)
    opened = EVERY_KIND[kind].open(folder, board().num_tracks)
    same(opened.retrieve(board().questions(3), 5), source.retrieve(board().questions(3), 5))
    assert repr(opened) == repr(source)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("als", "<Als: 284 tracks x 8 factors, exact index>"),
        ("als by annoy", "<Als: 284 tracks x 8 factors, annoy index>"),
        ("related", "<Related: 284 tracks x 4 factors of 16 artists, exact index>"),
        ("autoencoder", "<Autoencoder: 284 tracks x 4 dimensions, exact index>"),
        ("factorization", "<Factorization: 284 tracks x 4 factors, exact index>"),
        ("cosine", "<Content: 284 tracks x 5 dimensions, exact index>"),
        ("neighbours", "<Neighbours: 60 playlists x 284 tracks>"),
        ("artist", "<MoreOfTheSame: 16 artists x 284 tracks>"),
        ("popularity", "<Popularity: 284 tracks>"),
    ],
)
def test_a_source_says_what_it_is(kind: str, shown: str) -> None:
    assert repr(fitted(EVERY_KIND[kind])) == shown


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_nothing_dumps_its_arrays(kind: str) -> None:
    source = fitted(EVERY_KIND[kind])
    for thing in (source, EVERY_KIND[kind], getattr(source, "index", source)):
        assert len(repr(thing)) < 120
        assert "\n" not in repr(thing)
        assert "array" not in repr(thing)


def test_training_data_say_what_they_are() -> None:
    entries = len(board().held.tracks)
    assert repr(board().visible) == f"<TrainingData: 60 playlists x 284 tracks, {entries:,} entries, 4 content features, seed 7>"


def test_an_answer_by_ids_needs_only_a_vocabulary() -> None:
    found = Retrieved(np.array([[1, 0, NO_TRACK]], np.int32), np.array([[2.0, 1.0, -np.inf]], np.float32))
    assert found.named(Vocabulary(["a", "b"])) == [("b", 2.0), ("a", 1.0)]
