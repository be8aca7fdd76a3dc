"""An interrupted training whose files come to harm: the artifact of an undisturbed one, and a line for what was computed again."""

from __future__ import annotations

import pickle
import random
import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from engine.artifact import Manifest, open_artifact
from engine.config import SourcesConfig
from engine.model import KnownPlaylists
from engine.train.launch import STORAGE, train
from engine.train.run_store import FinishedPhases, RunStore, UnfinishedError, storage_of
from engine.train.storage import Storage
from features.manifest import read_manifest
from features.progress import silent
from features.sealed import SEAL
from tests.damage import DAMAGES, swapped
from tests.engine.train.store_worker import Text
from tests.engine.training import CONFIG, Heard, make_dataset
from tests.side_by_side import run_side_by_side

FEW = CONFIG.model_copy(update={"sources": SourcesConfig(als=CONFIG.sources.als, only=("als", "artist", "neighbours")), "alternatives": {}})
BREAKS = {"before the artifact": None, "in a sweep": ("als", 0.75), "in the ranker": ("ranker", 0.85)}
"""Where the training is interrupted: the phase and the share of it."""
TRIALS = 21


class World(NamedTuple):
    dataset: Path
    undisturbed: Manifest
    interrupted: dict[str, Path]
    """By when, the storage that was left."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("damaged"))


def make_world(folder: Path) -> World:
    dataset = make_dataset(folder, playlists=200)
    undisturbed = train(dataset, folder / "undisturbed", FEW, workers=0, report=silent, threads=1)
    interrupted = {}
    for when, breaks_at in BREAKS.items():
        with pytest.MonkeyPatch.context() as patch:
            if breaks_at is None:
                patch.setattr(KnownPlaylists, "save", _power_is_gone)
            with pytest.raises(RuntimeError, match="power"):
                train(dataset, folder / when / "artifact", FEW, workers=0, report=Heard(breaks_at), threads=1)
        interrupted[when] = folder / when / STORAGE
    return World(dataset, undisturbed, interrupted)


def _power_is_gone(*_: object) -> None:
    raise RuntimeError("the power is gone")


def damages(world: World, seed: int) -> Iterator[tuple[str, str, str]]:
    """When it was interrupted, the file and what happens to it: every kind of damage in turn, without end."""
    draw, kinds = random.Random(seed), cycle([*DAMAGES, "swapped"])
    for when in cycle(world.interrupted):
        yield when, draw.choice(files_in(world.interrupted[when])), next(kinds)


def files_in(folder: Path) -> list[str]:
    """Those with anything in them."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and file.stat().st_size)


def train_after(world: World, when: str, name: str, kind: str, place: Path) -> list[str]:
    """Resumes after one damage, and removes what it made; returns what was said."""
    draw, said = random.Random(name), list[str]()
    storage = Path(shutil.copytree(world.interrupted[when], place / STORAGE))
    if kind == "swapped":
        content = (storage / name).read_bytes()
        swapped(storage / name, storage / draw.choice([other for other in files_in(storage) if (storage / other).read_bytes() != content]))
    else:
        DAMAGES[kind](storage / name, draw)
    found = train(world.dataset, place / "artifact", FEW, workers=0, report=silent, threads=1, say=said.append)
    assert found.files == world.undisturbed.files, (when, name, kind, said)
    assert open_artifact(place / "artifact").manifest.version == world.undisturbed.version
    assert not storage.exists()
    shutil.rmtree(place)
    return said


def test_the_artifact_is_the_undisturbed_one_and_what_was_computed_again_is_said(world: World, tmp_path: Path) -> None:
    for trial, (when, name, kind) in zip(range(TRIALS), damages(world, seed=1), strict=False):
        said = train_after(world, when, name, kind, tmp_path / f"{trial}")
        assert [line for line in said if "It is removed, and what it held is computed again" in line], (when, name, kind, said)


def test_a_phase_that_is_gone_is_computed_again(world: World, tmp_path: Path) -> None:
    for phase in ("final/als", "masked 1/artist", "ranker", "examples 1", "final"):
        place = tmp_path / phase.replace("/", " ")
        (storage,) = Path(shutil.copytree(world.interrupted["before the artifact"], place / STORAGE)).iterdir()
        shutil.rmtree(storage / phase)
        assert train(world.dataset, place / "artifact", FEW, workers=0, report=silent, threads=1).version == world.undisturbed.version


# --- several workers ---


@pytest.fixture
def storage(world: World, tmp_path: Path) -> Storage:
    return storage_of(tmp_path, read_manifest(world.dataset).fingerprint, FEW, 2)


def test_who_only_opens_finds_what_is_whole_and_computes_nothing(storage: Storage) -> None:
    said: list[str] = []
    finished = FinishedPhases(storage, said.append).under("final")
    with pytest.raises(UnfinishedError, match="final/als"):
        finished.once("als", lambda _: "mine", Text())
    assert RunStore(storage).under("final").once("als", lambda _: "first", Text()) == "first"
    assert finished.once("als", lambda _: "mine", Text()) == "first"
    assert said == []
    (Path(storage.address("final/als")) / "text").write_text("fir5t")
    as_read_by_another = FinishedPhases(pickle.loads(pickle.dumps(storage)), said.append).under("final")
    for _ in range(2):
        with pytest.raises(UnfinishedError, match="final/als"):
            as_read_by_another.once("als", lambda _: "mine", Text())
    assert len(said) == 1


def test_workers_take_the_same_branch(storage: Storage, tmp_path: Path) -> None:
    """A phase that worker 0 finds damaged is computed by both, and both open what it saves."""
    for phase in ("whole", "damaged"):
        RunStore(storage).once(phase, lambda _: "before", Text())
    (Path(storage.address("damaged")) / SEAL).write_bytes(b"")
    outs = [tmp_path / f"{rank}.npz" for rank in range(2)]
    arguments = [[str(rank), "2", str(tmp_path / "rendezvous"), storage.address(""), str(out)] for rank, out in enumerate(outs)]
    run_side_by_side("tests.engine.train.store_worker", arguments, {"GLOO_SOCKET_IFNAME": "lo"})
    for rank, out in enumerate(outs):
        found = dict(np.load(out))
        assert found["texts"].tolist() == ["before", "by 0"]
        assert found["computed"].tolist() == ["damaged"]
        assert len(found["said"]) == (1 if rank == 0 else 0)
