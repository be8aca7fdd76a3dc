"""Training on a real Ray: what workers make together is what one makes, and what fails there is told here."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import lightgbm
import pytest
import yaml

from benchmarks.processes import descendants, running
from engine.artifact import Manifest
from engine.config import SourcesConfig
from engine.model import KnownPlaylists, load_model
from engine.train.launch import STORAGE, train
from features.domain import Queries, SegueError
from stages.retrieve.als.model import AlsRecipe
from tests.damage import with_a_bit_flipped
from tests.engine.training import CONFIG, DIVERGED, DIVERGES, Heard, make_dataset, ranker_text

pytestmark = pytest.mark.cluster

Trained = tuple[Manifest, Path, Heard]
ROOT = Path(__file__).parents[3]
TOO_LONG_S = 280


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("training"))


def trained(dataset: Path, folder: Path, workers: int) -> Trained:
    heard, out = Heard(), folder / "artifact"
    return train(dataset, out, CONFIG, workers=workers, report=heard, threads=1), out, heard


@pytest.fixture(scope="module")
def by_none(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(dataset, tmp_path_factory.mktemp("none"), 0)


@pytest.fixture(scope="module")
def by_one(ray_cluster: ModuleType, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(dataset, tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def by_two(ray_cluster: ModuleType, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(dataset, tmp_path_factory.mktemp("two"), 2)


def figures(manifest: Manifest) -> dict[str, float]:
    return {f"{name} {figure}": value for name, of in manifest.metrics["check"].items() for figure, value in of.items()}


def rows_at_the_root(artifact: Path) -> int:
    tree: dict[str, Any] = lightgbm.Booster(model_file=artifact / "ranker" / "ranker.txt").dump_model()["tree_info"][0]
    return int(tree["tree_structure"]["internal_count"])


def test_one_worker_is_one_process(by_none: Trained, by_one: Trained) -> None:
    assert figures(by_one[0]) == pytest.approx(figures(by_none[0]), abs=1e-6)
    assert list(by_one[2].done) == list(by_none[2].done)


@pytest.mark.parametrize("phase", ["masked 1 als", "als"])
def test_two_workers_reach_the_loss_of_one(by_one: Trained, by_two: Trained, phase: str) -> None:
    assert by_two[2].done[phase]["loss"] == pytest.approx(by_one[2].done[phase]["loss"], rel=1e-3)


def test_two_workers_are_as_good_as_one(by_one: Trained, by_two: Trained) -> None:
    assert figures(by_two[0]) == pytest.approx(figures(by_one[0]), abs=0.05)


def test_two_workers_grow_the_same_trees_from_all_examples(by_one: Trained, by_two: Trained) -> None:
    """That both hold the same model is asserted in the training; here, that it is a model of both halves."""
    text = ranker_text(by_two[1])
    assert "[tree_learner: data]" in text
    assert "[num_machines: 2]" in text
    assert rows_at_the_root(by_two[1]) == pytest.approx(rows_at_the_root(by_one[1]), rel=0.05)


def test_no_address_of_a_worker_is_in_the_artifact(by_two: Trained) -> None:
    assert "[machines: ]" in ranker_text(by_two[1])
    assert "[local_listen_port: 12400]" in ranker_text(by_two[1])


def test_the_artifact_answers(by_two: Trained) -> None:
    assert_answers(by_two[1])


def assert_answers(artifact: Path) -> None:
    model = load_model(artifact)
    assert (model.pipeline.recommend(Queries.of([model_query(model)]), 10).ranking.tracks >= 0).all()


def model_query(model: Any) -> Any:
    from features.domain import Query

    return Query(model.names.playlists.tracks.values[:5])


def test_an_error_of_a_worker_is_one_line_without_a_second_try(ray_cluster: ModuleType, dataset: Path, tmp_path: Path) -> None:
    heard = Heard()
    with pytest.raises(SegueError, match=DIVERGED) as caught:
        train(dataset, tmp_path / "artifact", DIVERGES, workers=2, report=heard, threads=1)
    assert "\n" not in str(caught.value)
    assert "masked 1 als" in heard.done
    assert not (tmp_path / "artifact").exists()
    assert ray_cluster.is_initialized()


@pytest.mark.timeout(2 * TOO_LONG_S)
def test_on_two_nodes_that_share_no_folder(by_none: Trained, dataset: Path, tmp_path: Path) -> None:
    """A worker on each; what is finished goes through a storage behind a URI, so each worker has copies of its own."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG.model_dump(mode="json")))
    (tmp_path / "copies").mkdir()
    options = ["--config", tmp_path / "config.yaml", "--workers", 2, "--cpus-per-worker", 1, "--storage", f"file://{tmp_path}/storage"]
    command = [sys.executable, "-m", "tests.engine.two_nodes", "train", dataset, "--out", tmp_path / "artifact", *options]
    with TemporaryDirectory(prefix="segue-") as short:  # the names of sockets have little room
        ours = {"RAY_TMPDIR": short, "TMPDIR": str(tmp_path / "copies"), "RAY_worker_niceness": "0"}
        ended = subprocess.run(
            [*map(str, command)], env={**os.environ, **ours}, cwd=ROOT, capture_output=True, text=True, timeout=TOO_LONG_S
        )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "nodes of each group: 2"
    told = dict(re.findall(r"s  ([\w ]+): done  loss ([\d,.]+)", ended.stderr))
    for phase in ("masked 1 als", "als"):
        assert float(told[phase].replace(",", "")) == pytest.approx(by_none[2].done[phase]["loss"], rel=1e-3)
    assert "check: done" in ended.stderr
    assert_answers(tmp_path / "artifact")
    assert [*(tmp_path / "copies").glob("segue-train-*")] == []
    assert [*(tmp_path / "storage").rglob("*")] == []


def test_more_workers_than_cpus_is_one_line(ray_cluster: ModuleType, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SegueError, match="room for 99 workers of 1 CPUs each, found one of 1 nodes with room for 4"):
        train(dataset, tmp_path / "artifact", CONFIG, workers=99, report=Heard())


LONG = CONFIG.model_copy(update={"sources": SourcesConfig(als=AlsRecipe(factors=32, iterations=300), only=("als",)), "alternatives": {}})
"""Sweeps enough that one is under way when the news of another arrives."""


class Kills(Heard):
    """A Report that kills a worker once, as the kernel does that needs memory, when a sweep of `phase` has been made."""

    def __init__(self, phase: str) -> None:
        super().__init__()
        self.phase, self.killed, self.at = phase, 0, 0

    def __call__(self, phase: str, share: float, figures: Mapping[str, float]) -> None:
        super().__call__(phase, share, figures)
        if phase == self.phase and share < 1 and not self.killed:
            workers = [process.pid for process in descendants(running(), os.getpid()) if "RayTrainWorker" in process.command]
            self.killed, self.at = workers[-1], len(self.shares[phase])
            os.kill(self.killed, signal.SIGKILL)


def test_a_worker_killed_in_a_sweep_costs_no_finished_sweep_and_no_loss(ray_cluster: ModuleType, dataset: Path, tmp_path: Path) -> None:
    undisturbed, heard = Heard(), Kills("als")
    train(dataset, tmp_path / "undisturbed", LONG, workers=0, report=undisturbed, threads=1)
    train(dataset, tmp_path / "disturbed", LONG, workers=2, report=heard, threads=1)
    assert heard.killed
    [again] = [share for before, share in pairwise(heard.shares["als"]) if share <= before] or [1.0]
    assert again > heard.shares["als"][heard.at - 1] - 2 / 300
    assert heard.done["als"]["loss"] == pytest.approx(undisturbed.done["als"]["loss"], rel=1e-5)


def test_phases_that_were_damaged_are_computed_again_and_said(
    by_one: Trained, ray_cluster: ModuleType, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the starting process reads, and one that the worker alone does."""
    out, said = tmp_path / "artifact", list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(KnownPlaylists, "save", breaks)
        with pytest.raises(RuntimeError, match="power"):
            train(dataset, out, CONFIG, workers=1, report=Heard(), threads=1)
    (storage,) = (tmp_path / STORAGE).iterdir()
    for phase in ("final/als", "masked 1/related"):
        with_a_bit_flipped(max((storage / phase / "files").iterdir(), key=lambda file: file.stat().st_size), Random(0))
    manifest = train(dataset, out, CONFIG, workers=1, report=Heard(), threads=1, say=said.append)
    assert manifest.files == by_one[0].files
    assert sorted(line.removeprefix(f"{storage}/").split(": ")[0] for line in said) == ["final/als", "masked 1/related"]
    assert not storage.exists()


def breaks(*_: object) -> None:
    raise RuntimeError("the power is gone")


def test_more_gpus_than_there_are_is_one_line(ray_cluster: ModuleType, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SegueError, match="2 workers of 1 CPUs and 8 GPUs each, found one of 1 nodes with room for 0"):
        train(dataset, tmp_path / "artifact", CONFIG, workers=2, gpus=8, report=Heard(), threads=1)
