"""A trained model is opened as it was saved, or refused; never half, never of two versions, never a crash."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from engine.artifact import MANIFEST, ArtifactWriter, Description, open_artifact
from engine.cli import describe
from engine.model import (
    KnownPlaylists,
    Model,
    load_model,
    open_names,
    open_second_stage,
    open_source,
    save_model,
    source_names,
)
from features.domain import Queries, Query, SegueError
from stages.rank.lambdamart import LambdaMartRecipe
from stages.retrieve.als import AlsRecipe
from stages.retrieve.catalogue import RelatedRecipe
from stages.retrieve.index import IndexRecipe
from tests import worlds
from tests.worlds import SMALL, Training

EXPECTED_AND_FOUND = re.compile(r"expected .+found .+", re.DOTALL)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nobody writes into it."""
    path = tmp_path_factory.mktemp("model") / "artifact"
    made = worlds.training()
    save_model(made.trained, made.dataset, path)
    return path


@pytest.fixture(scope="module")
def model(saved: Path) -> Model:
    return load_model(saved)


@pytest.fixture
def path(saved: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "artifact"))


@pytest.fixture
def made() -> Training:
    return worlds.training()


def asked(made: Training) -> Queries:
    held = made.board.held
    some = [Query(held.tracks_of(i), held.titles[i]) for i in range(6)]
    return Queries.of(
        [*some, worlds.query(), worlds.query(3), worlds.query(title="odd party"), Query(held.tracks_of(9)[:4], "", held.tracks_of(3))]
    )


def files_of(path: Path) -> list[str]:
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


def refused(path: Path, opens: Callable[[Path], object] = load_model) -> str:
    with pytest.raises(SegueError) as caught:
        opens(path)
    assert EXPECTED_AND_FOUND.search(str(caught.value)), caught.value
    return str(caught.value)


def reseal(path: Path, change: Callable[[dict[str, Any]], object] = lambda content: None) -> None:
    """The files as they are now, under a manifest that fits them, perhaps changed: as somebody would do who knows how."""
    content = json.loads((path / MANIFEST).read_text())
    change(content)
    with ArtifactWriter(path) as writer:
        shutil.copytree(path, writer.folder, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)
        writer.describe(Description.model_validate({name: content[name] for name in Description.model_fields}))


def in_old_names(config: dict[str, Any]) -> dict[str, Any]:
    """As version 0.2 wrote it."""
    sources, ranker = config["sources"], LambdaMartRecipe.old_names
    for source, recipe in ((sources["als"], AlsRecipe), (sources["related"]["als"], AlsRecipe), (sources["related"], RelatedRecipe)):
        source.update({old: source.pop(new) for old, new in recipe.old_names.items()})
    for source in sources.values():
        if isinstance(source, dict) and "index" in source:
            source["index"].update({old: source["index"].pop(new) for old, new in IndexRecipe.old_names.items()})
    config["ranker"].update({old: config["ranker"].pop(new) for old, new in ranker.items()})
    return config


# --- as it was saved ---


def test_the_checkerboard_is_still_continued(made: Training, model: Model) -> None:
    assert made.board.precision_at_1(model.pipeline.recommend(made.board.questions(20), 1).ranking.tracks[:, 0]) == 1.0


def test_a_model_whose_settings_have_their_old_names_is_opened_too(made: Training, model: Model, path: Path) -> None:
    reseal(path, lambda content: in_old_names(content["config"]))
    assert '"sweeps"' in (path / MANIFEST).read_text()
    older = load_model(path)
    assert older.config == model.config
    np.testing.assert_array_equal(
        older.pipeline.recommend(asked(made), 50).ranking.scores, model.pipeline.recommend(asked(made), 50).ranking.scores
    )


def test_an_opened_model_answers_as_the_trained_one(made: Training, model: Model) -> None:
    expected, found = (pipeline.recommend(asked(made), 50) for pipeline in (made.pipeline, model.pipeline))
    np.testing.assert_array_equal(found.ranking.tracks, expected.ranking.tracks)
    np.testing.assert_array_equal(found.ranking.scores, expected.ranking.scores)
    for source, ranks in expected.ranks.items():
        np.testing.assert_array_equal(found.ranks[source], ranks)


def test_parts_opened_alone_are_those_of_the_whole(made: Training, saved: Path, model: Model) -> None:
    artifact = open_artifact(saved)
    queries = asked(made)
    assert source_names(artifact) == tuple(model.pipeline.sources) == tuple(SMALL.sources.recipes())
    retrieved = {name: open_source(artifact, name).retrieve(queries, 50) for name in source_names(artifact)}
    found = open_second_stage(artifact).rank(queries, retrieved, 20).ranking
    np.testing.assert_array_equal(found.tracks, model.pipeline.recommend(queries, 20).ranking.tracks)


def test_names_are_those_of_the_dataset(made: Training, model: Model) -> None:
    names = model.names
    assert names.vocabulary.hash == made.dataset.vocabulary.hash
    assert names.catalog.table.equals(made.dataset.catalog.table)
    tracks, title = names.playlists.find("p5") or (None, None)
    assert tracks is not None
    assert (tracks.tolist(), title) == (made.board.held.tracks_of(5).tolist(), made.board.held.titles[5])
    assert names.playlists.find("p80") is None


def test_the_manifest_says_what_was_trained(made: Training, model: Model) -> None:
    manifest = model.artifact.manifest
    assert model.config == SMALL
    assert manifest.feature_names == made.trained.ranker.names
    assert manifest.num_tracks == made.board.num_tracks
    assert {name: source.index for name, source in manifest.sources.items() if source.index} == {
        "als": "exact",
        "related": "exact",
        "autoencoder": "exact",
        "content": "annoy",
    }
    assert manifest.metrics["check"] == made.trained.figures["check"]
    assert manifest.metrics["num_playlists"] == 80


def test_it_is_described_how_each_index_was_chosen(model: Model) -> None:
    shown = describe.figures(model.artifact.manifest)
    als = "kind als, dimension 8, metric inner product, index exact, recall 1.0000, estimated "
    assert str(shown["sources"]["als"]).startswith(als)
    chosen = {name: str(said) for name, said in shown["how each index was chosen"].items()}
    assert list(chosen) == ["als", "related", "autoencoder", "content"]
    assert re.fullmatch(r"Annoy not tried: by work it takes .* ms or more, exact .* ms; index exact, recall 1\.0000, .* ms", chosen["als"])
    assert re.fullmatch(r"asked for; index exact, .*; index annoy, trees 5, search nodes 2000, recall [01]\.\d+, .* ms", chosen["content"])


def test_a_model_saved_twice_is_the_same_version(made: Training, model: Model, tmp_path: Path) -> None:
    assert save_model(made.trained, made.dataset, tmp_path / "again").version == model.artifact.manifest.version


def test_an_opened_model_is_saved_again_the_same(made: Training, saved: Path, model: Model, tmp_path: Path) -> None:
    for name, source in model.pipeline.sources.items():
        (tmp_path / name).mkdir()
        source.save(tmp_path / name)
        for file in files_of(tmp_path / name):
            assert (tmp_path / name / file).read_bytes() == (saved / "sources" / name / file).read_bytes(), f"{name}/{file}"


def arrays_of(thing: object, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Every array that a trained thing holds."""
    if isinstance(thing, np.ndarray):
        yield name, thing
    elif sp.issparse(thing):
        yield from ((f"{name}.{part}", getattr(thing, part)) for part in ("data", "indices", "indptr"))
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield from arrays_of(value, f"{name}.{key}")
    elif is_dataclass(thing) and not isinstance(thing, type):
        for part in fields(thing):
            yield from arrays_of(getattr(thing, part.name), f"{name}.{part.name}")


@pytest.mark.parametrize("source", list(SMALL.sources.recipes()))
def test_what_is_mapped_into_memory_cannot_be_written_to(model: Model, source: str) -> None:
    large = [
        (name, array)
        for name, array in arrays_of(model.pipeline.sources[source], source)
        if array.size >= worlds.training().board.num_tracks
    ]
    mapped = [(name, array) for name, array in large if not array.flags.owndata or isinstance(array, np.memmap)]
    assert mapped
    for name, array in mapped:
        assert not array.flags.writeable or "layers" in name or name.endswith("indptr"), name


def test_facts_and_playlists_cannot_be_written_to(model: Model) -> None:
    facts, playlists = model.pipeline.second.pair_features.facts, model.names.playlists
    ragged = (facts.postings.values, facts.postings.offsets, playlists.tracks.values, playlists.tracks.offsets)
    for array in (facts.artists, facts.albums, facts.counts, *ragged):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


# --- damaged ---


def test_every_file_cut_short_is_refused(path: Path) -> None:
    for name in files_of(path):
        whole = (path / name).read_bytes()
        for length in (0, len(whole) // 2, len(whole) - 1):
            if name == MANIFEST and length == len(whole) - 1:
                continue  # the newline at its end
            (path / name).write_bytes(whole[:length])
            message = refused(path)
            assert name in message
        (path / name).write_bytes(whole)
    assert load_model(path)


def test_every_file_altered_in_one_byte_is_refused(path: Path) -> None:
    for name in files_of(path):
        whole = (path / name).read_bytes()
        place = len(whole) // 2
        (path / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert name in refused(path)
        (path / name).write_bytes(whole)


def test_every_file_renamed_or_gone_is_refused(path: Path) -> None:
    for name in files_of(path):
        other = (path / name).with_name(f"other{Path(name).suffix}")
        (path / name).rename(other)
        assert name in refused(path)
        other.rename(path / "gone")
        (path / "gone").rename(path.parent / "gone")
        assert name in refused(path)
        (path.parent / "gone").rename(path / name)
    assert load_model(path)


def test_two_files_that_changed_places_are_refused(path: Path) -> None:
    one, other = path / "sources/als/track_vectors.npy", path / "sources/autoencoder/track_vectors.npy"
    one.rename(path.parent / "scratch")
    other.rename(one)
    (path.parent / "scratch").rename(other)
    assert "track_vectors.npy" in refused(path)


@pytest.mark.parametrize(
    "part",
    [
        "vocabulary.parquet",
        "catalog.parquet",
        "facts/",
        "ranker/fusion.json",
        "ranker/ranker.txt",
        "sources/",
        "playlists/offsets.npy",
        "playlists/playlists.parquet",
        "playlists/tracks.npy",
    ],
)
def test_a_file_cut_short_is_refused_even_where_the_manifest_was_made_to_fit(path: Path, part: str) -> None:
    cut = [name for name in files_of(path) if name.startswith(part)]
    assert cut
    for name in cut:
        whole = (path / name).read_bytes()
        (path / name).write_bytes(whole[: len(whole) // 2])
        reseal(path)
        assert Path(name).name in refused(path)
        (path / name).write_bytes(whole)


@pytest.mark.parametrize("version", [0, 1, 2, "2", None])
def test_an_artifact_of_another_format_version_is_refused(path: Path, version: object) -> None:
    content = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(content | {"format_version": version}))
    assert f"format_version: expected 3, found {version!r}" in refused(path)


def test_another_vocabulary_is_refused_with_both_hashes(path: Path, model: Model) -> None:
    reseal(path, lambda content: content.update(vocabulary_hash="ab" * 32))
    message = refused(path, lambda path: open_names(open_artifact(path)))
    assert "ab" * 32 in message
    assert model.names.vocabulary.hash in message


def test_another_number_of_tracks_is_refused(path: Path) -> None:
    reseal(path, lambda content: content.update(num_tracks=125))
    message = refused(path)
    assert "125" in message
    assert "124" in message


def test_a_source_more_or_less_than_the_config_has_is_refused(path: Path) -> None:
    reseal(path, lambda content: content["sources"].pop("title"))
    names = ", ".join(SMALL.sources.recipes())
    assert f"expected the sources {names}, found {names.replace('title, ', '')}" in refused(path)


def test_a_ranker_trained_on_other_sources_is_refused_with_both_lists(path: Path) -> None:
    """Somebody drops a source from config and manifest: the columns are no longer those the trees know."""
    shutil.rmtree(path / "sources" / "title")

    def drop(content: dict[str, Any]) -> None:
        content["config"]["sources"]["title"] = None
        content["sources"].pop("title")

    reseal(path, drop)
    message = refused(path)
    expected, found = message.split("found", 1)
    assert "expected the features als.score" in expected
    assert "title.score" not in expected
    assert "title.score" in found


@pytest.mark.parametrize(("source", "expected", "found"), [("als", 5, 8), ("autoencoder", 6, 9), ("content", 5, 6)])
def test_another_dimension_in_the_config_is_refused(path: Path, source: str, expected: int, found: int) -> None:
    name = "factors" if source == "als" else "dim"
    reseal(path, lambda content: content["config"]["sources"][source].update({name: 5}))
    assert f"expected float32 (124, {expected}), found float32 (124, {found})" in refused(path)


@pytest.mark.parametrize("weights", ["[]", '{"als": "much"}', "{"])
def test_fusion_weights_that_are_none_are_refused(path: Path, weights: str) -> None:
    (path / "ranker" / "fusion.json").write_text(weights)
    reseal(path)
    assert "fusion.json" in refused(path)


def test_an_unknown_source_is_refused(saved: Path) -> None:
    message = refused(saved, lambda path: open_source(open_artifact(path), "lyrics"))
    assert message.endswith(f"expected one of the sources {', '.join(SMALL.sources.recipes())}, found lyrics")


def test_a_config_of_another_program_version_is_refused(path: Path) -> None:
    reseal(path, lambda content: content["config"].update(mood="blue"))
    assert "mood" in refused(path)


def test_playlists_are_opened_as_they_were_saved(made: Training, tmp_path: Path) -> None:
    KnownPlaylists.of(made.dataset).save(tmp_path)
    opened = KnownPlaylists.open(tmp_path, made.board.num_tracks)
    np.testing.assert_array_equal(opened.tracks.values, made.board.held.tracks)
    assert (opened.ids[:2], opened.titles) == (("p0", "p1"), made.board.held.titles)
