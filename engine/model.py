"""The parts of an artifact: how a trained model is saved, and how a process opens the whole model or one part of it.

    vocabulary.parquet  catalog.parquet   what the track indices stand for
    facts/                                what the pair features know of tracks
    playlists/                            the tracks of each playlist, for queries by playlist_id
    sources/NAME/                         one folder per retriever
    ranker/                               ranker.txt, fusion.json

Input: a Trained, or an artifact that `engine.artifact` has checked. Output: the artifact, or a Model or a part of one.
Large arrays are mapped into memory, so that processes on one machine share them. Independent of training and of serving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from pydantic import ValidationError

from engine.artifact import Artifact, ArtifactWriter, Description, Manifest, Source, TryOut, open_artifact
from engine.config import Config
from engine.pipeline import Pipeline, SecondStage
from features.arrays import indices
from features.catalog import Catalog
from features.dataset import Dataset
from features.domain import Ints, SegueError
from features.npy import load_ragged, save_ragged
from features.pairs import Facts, PairFeatures, Space
from features.ragged import Ragged
from features.schema import CATALOG, PLAYLIST_ID, TITLE
from features.tables import read_table
from features.validation import in_one_line
from features.vocabulary import Vocabulary
from stages.protocols import Retriever
from stages.rank.fusion import Fusion
from stages.rank.lambdamart import LambdaMart
from stages.retrieve.vectors import FILE as VECTORS
from stages.retrieve.vectors import open_vectors
from stages.settings import OLD_NAMES_ALLOWED

VOCABULARY, CATALOG_FILE = "vocabulary.parquet", "catalog.parquet"
FACTS, PLAYLISTS, SOURCES, RANKER = "facts", "playlists", "sources", "ranker"
PLAYLIST_NAMES: Mapping[str, pl.DataType] = {PLAYLIST_ID: pl.String(), TITLE: pl.String()}


class Saved(Protocol):
    """A trained source that can be saved, whether it is in memory or already in files."""

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes plain files into the existing, empty `folder`; returns what the manifest should say of it."""


@dataclass(frozen=True)
class Trained:
    """Everything that training made, which `save_model` saves."""

    sources: Mapping[str, Saved]
    build_facts: Callable[[], Facts]
    """Takes seconds on a large dataset, and most workers of a training never read them."""
    fusion: Fusion
    ranker: LambdaMart
    figures: Mapping[str, Any]
    config: Config
    """With the settings that training chose."""

    @cached_property
    def facts(self) -> Facts:
        return self.build_facts()


def save_model(trained: Trained, dataset: Dataset, path: Path, try_out: TryOut | None = None) -> Manifest:
    """Writes the artifact at `path`, whole or not at all; not where `try_out` raises an error over the finished folder."""
    with ArtifactWriter(path, try_out) as writer:
        folder = writer.folder
        dataset.vocabulary.save(folder / VOCABULARY)
        dataset.catalog.table.write_parquet(folder / CATALOG_FILE)
        trained.facts.save(_new_folder(folder / FACTS))
        KnownPlaylists.of(dataset).save(_new_folder(folder / PLAYLISTS))
        sources = {
            name: Source.model_validate(source.save(_new_folder(folder / SOURCES / name))) for name, source in trained.sources.items()
        }
        trained.ranker.save(_new_folder(folder / RANKER))
        trained.fusion.save(folder / RANKER)
        writer.describe(
            Description(
                seed=trained.config.seed,
                config=trained.config.model_dump(),
                vocabulary_hash=dataset.vocabulary.hash,
                num_tracks=len(dataset.vocabulary),
                feature_names=trained.ranker.names,
                sources=sources,
                metrics={**trained.figures, "importance": trained.ranker.importance(), "num_playlists": dataset.interactions.num_playlists},
            )
        )
    assert writer.manifest is not None
    return writer.manifest


def _new_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@dataclass(frozen=True)
class KnownPlaylists:
    """The playlists that a query may name by id; of a challenge playlist the visible tracks."""

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    tracks: Ragged[np.int32]
    """Row i belongs to `ids[i]`."""

    @classmethod
    def of(cls, dataset: Dataset) -> KnownPlaylists:
        table = dataset.playlists
        return cls(tuple(table[PLAYLIST_ID].to_list()), tuple(table[TITLE].to_list()), dataset.interactions.by_playlist)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {playlist_id: row for row, playlist_id in enumerate(self.ids)}

    def find(self, playlist_id: str) -> tuple[Ints, str] | None:
        """Its tracks in order and its title; None for an unknown id."""
        row = self._rows.get(playlist_id)
        return None if row is None else (self.tracks.row(row), self.titles[row])

    def save(self, folder: Path) -> None:
        pl.DataFrame({PLAYLIST_ID: self.ids, TITLE: self.titles}).write_parquet(folder / "playlists.parquet")
        save_ragged(folder / "tracks.npy", folder / "offsets.npy", self.tracks)

    @classmethod
    def open(cls, folder: Path, num_tracks: int) -> KnownPlaylists:
        tracks = load_ragged(folder / "tracks.npy", folder / "offsets.npy", indices(None, below=num_tracks), None, mmap=True)
        table = read_table(folder / "playlists.parquet", PLAYLIST_NAMES, len(tracks), complete=PLAYLIST_NAMES)
        return cls(tuple(table[PLAYLIST_ID].to_list()), tuple(table[TITLE].to_list()), tracks)


@dataclass(frozen=True)
class Names:
    """From outside ids to track indices and back: what the gateway needs of a model."""

    vocabulary: Vocabulary
    catalog: Catalog
    playlists: KnownPlaylists


@dataclass(frozen=True)
class Model:
    """All parts of one model version, in this process; parts of different versions are never combined."""

    artifact: Artifact
    config: Config
    names: Names
    pipeline: Pipeline


def load_model(path: Path) -> Model:
    """All parts of the artifact at `path`, after its files were checked."""
    artifact = open_artifact(path)
    config = config_of(artifact)
    sources = {name: open_source(artifact, name) for name in source_names(artifact)}
    return Model(artifact, config, open_names(artifact), Pipeline(sources, open_second_stage(artifact)))


def config_of(artifact: Artifact) -> Config:
    """What it was trained with, an earlier version's names of settings translated; SegueError for settings that no version knew."""
    try:
        return Config.model_validate(artifact.manifest.config, context=OLD_NAMES_ALLOWED)
    except ValidationError as error:
        found = in_one_line(error, Config)
        raise SegueError(f"{artifact.path}: expected the settings of this version, found {found}. Train again") from error


def source_names(artifact: Artifact) -> tuple[str, ...]:
    """In the order of the config, which is that of the pair features; the manifest must list the same sources."""
    names = tuple(config_of(artifact).sources.recipes())
    if set(names) != set(artifact.manifest.sources):
        found = ", ".join(artifact.manifest.sources)
        raise SegueError(f"{artifact.path}: expected the sources {', '.join(names)}, found {found}. Train again")
    return names


def open_names(artifact: Artifact) -> Names:
    vocabulary = Vocabulary.open(artifact.file(VOCABULARY), artifact.manifest.num_tracks)
    if vocabulary.hash != artifact.manifest.vocabulary_hash:
        raise SegueError(
            f"{artifact.path}: expected a vocabulary of hash {artifact.manifest.vocabulary_hash}, found {vocabulary.hash}. Train again"
        )
    catalog = Catalog(read_table(artifact.file(CATALOG_FILE), CATALOG, len(vocabulary)))
    return Names(vocabulary, catalog, KnownPlaylists.open(artifact.path / PLAYLISTS, len(vocabulary)))


def open_source(artifact: Artifact, name: str) -> Retriever:
    """One source without the rest of the model."""
    if name not in source_names(artifact):
        raise SegueError(f"{artifact.path}: expected one of the sources {', '.join(source_names(artifact))}, found {name}")
    return config_of(artifact).sources.recipes()[name].open(artifact.path / SOURCES / name, artifact.manifest.num_tracks)


def open_second_stage(artifact: Artifact, threads: int = 1) -> SecondStage:
    """Facts, vector spaces, fusion and ranker; no index."""
    manifest, config = artifact.manifest, config_of(artifact)
    sources = source_names(artifact)
    spaces = {name: open_space(artifact, name) for name in sources if has_vectors(artifact, name)}
    features = PairFeatures(Facts.open(artifact.path / FACTS, manifest.num_tracks), sources, spaces)
    ranker = LambdaMart.open(artifact.path / RANKER, features.names, threads)
    return SecondStage(features, open_fusion(artifact), ranker, config.candidates)


def has_vectors(artifact: Artifact, name: str) -> bool:
    """Whether the artifact has a source of that name, and it has track vectors."""
    return name in artifact.manifest.sources and f"{SOURCES}/{name}/{VECTORS}" in artifact.manifest.files


def open_space(artifact: Artifact, name: str) -> Space:
    """The track vectors of a source that has some, mapped into memory and shared with the source on the same machine."""
    said = artifact.manifest.sources[name]
    vectors = open_vectors(artifact.path / SOURCES / name, (artifact.manifest.num_tracks, said.dimension))
    return Space(vectors, None if said.bias_coordinate is None else vectors[:, said.bias_coordinate])


def open_fusion(artifact: Artifact) -> Fusion:
    return Fusion.open(artifact.path / RANKER, source_names(artifact))
