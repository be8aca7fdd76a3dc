"""A tiny artifact of a synthetic world, trained once, with every source; nobody writes into it."""

from __future__ import annotations

import atexit
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from engine.config import CandidatesConfig, Config, ExamplesConfig, SourcesConfig
from engine.local_ray import LOOPBACK_ONLY
from engine.model import Model, load_model, save_model
from engine.serve.cluster import EDGE_IN, ENVIRONMENT
from engine.serve.edge import edge
from engine.serve.ports import own_ports
from engine.train.plan import train
from features.dataset import Dataset
from features.ingest import ingest
from features.synthetic import write_world
from stages.rank.lambdamart import LambdaMartRecipe
from stages.retrieve.als.model import AlsRecipe
from stages.retrieve.autoencoder.model import AutoencoderRecipe
from stages.retrieve.catalogue.related_artists import RelatedRecipe
from stages.retrieve.content.recipes import ContractiveRecipe
from tests.command_line import Segue

HAPROXY = TemporaryDirectory(prefix="segue-", dir=EDGE_IN, ignore_cleanup_errors=True)
atexit.register(HAPROXY.cleanup)
os.environ.update(ENVIRONMENT | LOOPBACK_ONLY | own_ports() | edge(Path(HAPROXY.name)))  # read by the whole cluster, so before it starts
os.environ.pop("RAY_ADDRESS", None)  # tests start what they need

TINY = Config(
    alternatives={},
    sources=SourcesConfig(
        als=AlsRecipe(factors=16, iterations=3),
        autoencoder=AutoencoderRecipe(dim=8, epochs=1, negatives=100),
        content=ContractiveRecipe(dim=8, epochs=1),
        related=RelatedRecipe(als=AlsRecipe(factors=8, iterations=2)),
    ),
    candidates=CandidatesConfig(per_source=60, least=50, per_answer=2),
    examples=ExamplesConfig(playlists=80, folds=1, misses=40),
    ranker=LambdaMartRecipe(num_iterations=20, num_leaves=7, min_data_in_leaf=10),
)
"""Small in everything; fewer candidates are ranked for a short list than for a long one, as in real models."""


@pytest.fixture
def segue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Segue:
    return Segue(monkeypatch, capsys)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of a synthetic world, and its `dataset`."""
    folder = tmp_path_factory.mktemp("tiny")
    write_world(folder, playlists=300, tracks=600)
    ingest([folder / "mpd.zip"], folder / "dataset", folder / "audio_features.parquet")
    return folder


@pytest.fixture(scope="session")
def tiny_artifact(world: Path) -> Path:
    dataset = Dataset.open(world / "dataset")
    save_model(train(dataset, TINY), dataset, world / "artifact")
    return world / "artifact"


@pytest.fixture(scope="session")
def other_artifact(world: Path, tiny_artifact: Path) -> Path:
    """Another model of the same world, as a training with another seed makes it."""
    dataset = Dataset.open(world / "dataset")
    save_model(train(dataset, TINY.model_copy(update={"seed": 1})), dataset, world / "other")
    return world / "other"


@pytest.fixture(scope="session")
def tiny_model(tiny_artifact: Path) -> Model:
    return load_model(tiny_artifact)
