"""What older programs wrote is opened byte for byte and answers as it did when it was written."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.artifact import open_artifact
from engine.model import Model, load_model
from features.dataset import Dataset
from features.domain import Queries, Query
from features.manifest import file_facts, fingerprint_of, read_manifest

HERE = Path(__file__).parent
DATASET = HERE / "dataset-1"
ANSWERS: list[dict[str, Any]] = json.loads((HERE / "answers.json").read_text(encoding="utf-8"))
MANIFESTS = {
    "dataset.json": "fb31c679cb6138e2dce465976b9ea1ce87ccc49baf246f67ef59408d11da39f8",
    "manifest.json": "7db290de0627afd89c9e0bd3182dc3c9b4c47d26d1cd593f67f722eed28c77f6",
}
"""sha256 of the two files that no other file lists."""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden") / "artifact-3"
    with zipfile.ZipFile(HERE / "artifact-3.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def model(artifact: Path) -> Model:
    return load_model(artifact)


def sha256_of(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


# --- the dataset ---


def test_a_dataset_of_version_1_is_opened_byte_for_byte() -> None:
    found = sha256_of(DATASET)
    data = Dataset.open(DATASET)
    assert found.pop("dataset.json") == MANIFESTS["dataset.json"]
    assert found == {name: facts.sha256 for name, facts in read_manifest(DATASET).files.items()}
    assert data.fingerprint == fingerprint_of(file_facts(DATASET))
    assert repr(data).startswith("Dataset(170 playlists, 500 tracks, ")
    assert sha256_of(DATASET) == {"dataset.json": MANIFESTS["dataset.json"], **found}


def test_a_dataset_of_version_1_holds_what_it_held() -> None:
    data, manifest = Dataset.open(DATASET), read_manifest(DATASET)
    assert len(data.interactions.tracks) == manifest.num_interactions
    assert data.vocabulary.hash == manifest.vocabulary_hash
    assert data.vocabulary.ids(data.interactions.tracks_of(3)[:5]) == ANSWERS[0]["tracks"]


# --- the artifact ---


def test_an_artifact_of_version_3_is_opened_byte_for_byte(artifact: Path) -> None:
    before = sha256_of(artifact)
    manifest = open_artifact(artifact).manifest
    assert (manifest.format_version, manifest.version) == (3, "5281c7f91c6b")
    assert before["manifest.json"] == MANIFESTS["manifest.json"]
    assert {name: entry.sha256 for name, entry in manifest.files.items()} == {n: s for n, s in before.items() if n != "manifest.json"}
    load_model(artifact)
    assert sha256_of(artifact) == before


def test_an_artifact_of_version_3_belongs_to_the_dataset(model: Model) -> None:
    assert model.names.vocabulary.hash == Dataset.open(DATASET).vocabulary.hash


@pytest.mark.parametrize("pinned", ANSWERS, ids=lambda one: one["query"])
def test_an_artifact_of_version_3_recommends_what_it_did(model: Model, pinned: dict[str, Any]) -> None:
    ranking = model.pipeline.recommend(query_of(model, pinned), len(pinned["recommended"])).ranking
    require_same(ranking.named(model.names.vocabulary), pinned["recommended"])


@pytest.mark.parametrize("pinned", ANSWERS, ids=lambda one: one["query"])
def test_each_source_of_version_3_proposes_what_it_did(model: Model, pinned: dict[str, Any]) -> None:
    assert set(model.pipeline.sources) == set(pinned["sources"])
    for name, source in model.pipeline.sources.items():
        require_same(source.retrieve(query_of(model, pinned), 3).named(model.names.vocabulary), pinned["sources"][name])


def query_of(model: Model, pinned: dict[str, Any]) -> Queries:
    require = model.names.vocabulary.require
    return Queries.of(Query(require(pinned["tracks"]), pinned["title"], require(pinned["exclude"])))


def require_same(found: list[tuple[str, float]], pinned: list[tuple[str, float]]) -> None:
    assert [track_id for track_id, _ in found] == [track_id for track_id, _ in pinned]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in pinned], rtol=1e-6, atol=1e-6)
