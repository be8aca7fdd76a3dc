"""Training with 0 workers: the same loops in this process. What is resumed, what is refused, what is left behind."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from socket import gethostname
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ray.exceptions import PendingCallsLimitExceeded

from engine.answer.recommender import Recommendations, Recommender
from engine.artifact import Manifest
from engine.cli.describe import figures
from engine.config import Config
from engine.model import KnownPlaylists, load_model, save_model
from engine.train import plan
from engine.train.cluster import room
from engine.train.folds import learn_from, masked, share_of
from engine.train.job import TrainingJob
from engine.train.launch import STORAGE, train
from engine.train.phase_files import SavedSource
from engine.train.progress import MOST_WAITING, RemoteReport, ReportQueue
from engine.train.run_store import storage_of
from engine.train.storage import Storage
from engine.train.warm_start import PreviousModel
from features.dataset import Dataset
from features.domain import Queries, Query, SegueError
from features.manifest import read_manifest
from features.progress import silent
from features.sealed import seal
from stages import parallel
from stages.rank.lambdamart import LambdaMart, LambdaMartRecipe
from stages.retrieve.als.model import AlsRecipe
from tests.damage import with_a_bit_flipped
from tests.engine.training import CONFIG, DIVERGED, DIVERGES, Heard, make_dataset, ranker_text

ROOT = Path(__file__).parents[3]
EVERY = tuple(CONFIG.sources.recipes())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("training"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "artifact"


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path, Heard]:
    heard, path = Heard(), tmp_path_factory.mktemp("undisturbed") / "artifact"
    return train(dataset, path, CONFIG, workers=0, report=heard, threads=1), path, heard


@pytest.fixture(autouse=True)
def _leaves_torch_as_it_was() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


def at(out: Path, dataset: Path, config: Config = CONFIG, **more: Any) -> Manifest:
    return train(dataset, out, config, **{"workers": 0, "report": silent, "threads": 1, **more})


def run_of(out: Path, dataset: Path, config: Config = CONFIG, workers: int = 0) -> Storage:
    return storage_of(out.parent / STORAGE, read_manifest(dataset).fingerprint, config, workers)


def breaks(*_: object, **__: object) -> Any:
    raise RuntimeError("the power is gone")


def test_it_is_the_training_of_one_process(undisturbed: tuple[Manifest, Path, Heard], dataset: Path, out: Path) -> None:
    """The version is a hash of every file and figure."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    opened = Dataset.open(dataset)
    expected = save_model(plan.train(opened, CONFIG), opened, out)
    torch.set_num_threads(before)
    assert undisturbed[0].files == expected.files
    assert undisturbed[0].version == expected.version


def test_it_reports_every_phase_in_order(undisturbed: tuple[Manifest, Path, Heard]) -> None:
    assert tuple(undisturbed[2].done) == (
        "start",
        "trial 1 als",
        "trial 2 als",
        *(f"masked 1 {name}" for name in EVERY),
        "examples 1",
        *EVERY,
        "ranker",
        "check",
    )
    assert undisturbed[2].done["als"]["loss"] > 0


WITHOUT_RAY = """
import sys
from pathlib import Path
from engine.train.launch import train
from features.progress import silent
from tests.engine.training import CONFIG

train(Path(sys.argv[1]), Path(sys.argv[2]), CONFIG, workers=0, report=silent, threads=1)
assert not [name for name in sys.modules if name.split(".")[0] == "ray"]
"""


@pytest.mark.slow
def test_no_workers_is_no_ray(dataset: Path, out: Path) -> None:
    """Neither started nor imported, which alone takes seconds."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, str(dataset), str(out)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert out.is_dir()


def test_a_success_leaves_the_artifact_and_nothing_else(undisturbed: tuple[Manifest, Path, Heard]) -> None:
    assert [entry.name for entry in undisturbed[1].parent.iterdir()] == ["artifact"]


@pytest.mark.parametrize(
    ("recipe", "skipped"),
    [
        (LambdaMartRecipe, ["trial 1 als", "masked 1 als", "examples 1", "als", "popularity"]),
        (AlsRecipe, []),
    ],
)
def test_what_was_finished_is_skipped(
    undisturbed: tuple[Manifest, Path, Heard],
    dataset: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe: type[AlsRecipe | LambdaMartRecipe],
    skipped: list[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "fit", breaks)
        with pytest.raises(RuntimeError, match="power"):
            at(out, dataset)
    assert not out.exists()
    run = run_of(out, dataset)
    assert all(run.has(phase) for phase in ("settled", "fusion", "examples 1/0", "masked 1/als", "final/als")) == bool(skipped)
    heard = Heard()
    manifest = at(out, dataset, report=heard)
    assert not any(heard.done.get(phase) for phase in skipped)  # told of as done at once, without a loss
    assert manifest.version == undisturbed[0].version
    assert ranker_text(out) == ranker_text(undisturbed[1])
    assert not run.begun()


def test_a_group_goes_on_in_its_middle(
    undisturbed: tuple[Manifest, Path, Heard], dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits, original = [0], AlsRecipe.fit

    def fourth_breaks(self: AlsRecipe, *args: Any) -> Any:
        fits[0] += 1
        return breaks() if fits[0] == 4 else original(self, *args)

    monkeypatch.setattr(AlsRecipe, "fit", fourth_breaks)
    with pytest.raises(RuntimeError, match="power"):
        at(out, dataset)
    assert run_of(out, dataset).has("examples 1/0")
    assert at(out, dataset).version == undisturbed[0].version
    assert fits[0] == 5


@pytest.mark.parametrize(("phase", "share"), [("masked 1 als", 0.25), ("als", 0.75), ("related", 0.5)])
def test_als_goes_on_from_its_last_sweep(
    undisturbed: tuple[Manifest, Path, Heard], dataset: Path, out: Path, phase: str, share: float
) -> None:
    """Of four sweeps, and of two."""
    with pytest.raises(RuntimeError, match="power"):
        at(out, dataset, report=Heard(breaks_at=(phase, share)))
    heard = Heard()
    assert at(out, dataset, report=heard).version == undisturbed[0].version
    assert heard.shares[phase] == [later for later in undisturbed[2].shares[phase] if later > share]


def test_the_storage_may_be_elsewhere(dataset: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LambdaMartRecipe, "fit", breaks)
    with pytest.raises(RuntimeError, match="power"):
        at(out, dataset, storage=tmp_path / "elsewhere")
    assert storage_of(tmp_path / "elsewhere", read_manifest(dataset).fingerprint, CONFIG, 0).has("final/als")
    assert not (tmp_path / STORAGE).exists()


@pytest.mark.parametrize(
    ("fingerprint", "config", "workers"),
    [("other", CONFIG, 1), ("one", CONFIG.model_copy(update={"seed": 7}), 1), ("one", CONFIG, 2)],
)
def test_another_training_has_another_name(fingerprint: str, config: Config, workers: int, tmp_path: Path) -> None:
    assert storage_of(tmp_path, "one", CONFIG, 1) == storage_of(tmp_path, "one", CONFIG.model_copy(), 1)
    assert storage_of(tmp_path, fingerprint, config, workers) != storage_of(tmp_path, "one", CONFIG, 1)


def test_an_older_format_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = storage_of(tmp_path, "one", CONFIG, 1)
    monkeypatch.setattr("engine.train.run_store.FORMAT_VERSION", 999)
    assert storage_of(tmp_path, "one", CONFIG, 1) != before


def test_what_a_person_can_mend_is_one_line(dataset: Path, out: Path) -> None:
    with pytest.raises(SegueError, match=DIVERGED) as caught:
        at(out, dataset, DIVERGES)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_a_refused_training_leaves_nothing(dataset: Path, out: Path, tmp_path: Path) -> None:
    """No storage, which every later training would name."""
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    (copy / "playlists.parquet").write_bytes(b"")
    for place in (None, f"file://{tmp_path}/place"):
        with pytest.raises(SegueError, match=r"playlists\.parquet: expected .* bytes, found 0"):
            at(out, copy, storage=place)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy", "place"]
    assert [*(tmp_path / "place").iterdir()] == []


def test_a_dataset_with_a_bit_flipped_is_refused(dataset: Path, out: Path, tmp_path: Path) -> None:
    part = Path(shutil.copytree(dataset, tmp_path / "copy")) / "interactions" / "part-00000.parquet"
    with_a_bit_flipped(part, Random(0))
    with pytest.raises(SegueError, match=r"part-00000\.parquet: expected sha256 .*: the file was changed"):
        at(out, tmp_path / "copy")


def test_a_model_that_does_not_answer_is_not_sealed(
    undisturbed: tuple[Manifest, Path, Heard], dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older one stays, and what was finished too."""
    shutil.copytree(undisturbed[1], out)
    before = (out / "manifest.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Recommender, "recommend", lambda *_, **__: Recommendations())
        with pytest.raises(SegueError, match=r"artifact .*/artifact: expected one that opens and answers, found .*expected popular tracks"):
            at(out, dataset)
    assert (out / "manifest.json").read_bytes() == before
    assert run_of(out, dataset).has("final/als")
    assert at(out, dataset).version == undisturbed[0].version


def test_a_model_that_does_not_open_is_not_sealed(dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KnownPlaylists, "save", lambda self, folder: None)
    with pytest.raises(SegueError, match=r"expected one that opens and answers, found .*/playlists/"):
        at(out, dataset)
    assert not out.exists()


def test_a_place_that_cannot_hold_an_artifact_is_told_of_first(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr(AlsRecipe, "fit", breaks)
    with pytest.raises(SegueError, match=r"expected a new name or an older artifact, found a folder with notes\.txt"):
        at(tmp_path, dataset)


@pytest.mark.parametrize("more", [{"workers": -1}, {"threads": 0}, {"gpus": -1}])
def test_odd_numbers_are_refused(dataset: Path, out: Path, more: dict[str, int]) -> None:
    with pytest.raises(SegueError, match=f"found .*{next(iter(more.values()))}"):
        at(out, dataset, **more)


def test_no_dataset_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match="expected a dataset"):
        at(tmp_path / "artifact", tmp_path / "nowhere")


def test_a_dataset_replaced_meanwhile_is_refused(dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(dataset).model_copy(update={"fingerprint": "0" * 64})
    monkeypatch.setattr("engine.train.launch.read_manifest", lambda _: manifest)
    with pytest.raises(SegueError, match=r"expected the dataset of fingerprint 0{12}, found"):
        at(out, dataset)


def test_a_full_disk_is_one_error_and_no_half_artifact(
    undisturbed: tuple[Manifest, Path, Heard], dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(KnownPlaylists, "save", full)
        with pytest.raises(OSError, match="No space left"):
            at(out, dataset)
    assert [entry.name for entry in out.parent.iterdir()] == [STORAGE]
    heard = Heard()
    assert at(out, dataset, report=heard).version == undisturbed[0].version
    assert {phase for phase, figures in heard.done.items() if figures} == {"start"}  # nothing was computed


def test_two_trainings_of_the_same_do_not_meet(dataset: Path, out: Path) -> None:
    with run_of(out, dataset).locked(), pytest.raises(SegueError, match="expected no other training"):
        at(out, dataset)


def test_a_phase_that_failed_is_not_there(tmp_path: Path) -> None:
    run = storage_of(tmp_path, "one", CONFIG, 1)
    with run.locked():
        with pytest.raises(FileNotFoundError), run.keep("masked 1/als") as folder:
            shutil.copytree(tmp_path / "nowhere", folder / "half")
        assert not run.has("masked 1/als")
        assert [entry.name for entry in Path(run.address("")).iterdir()] == ["lock"]


def test_a_kept_source_says_what_it_said(tmp_path: Path) -> None:
    (tmp_path / "phase" / "files").mkdir(parents=True)
    (tmp_path / "phase" / "files" / "numbers.npy").write_bytes(b"123")
    (tmp_path / "phase" / "said.json").write_text('{"kind": "als"}')
    seal(tmp_path / "phase", "als")
    (tmp_path / "copy").mkdir()
    source = SavedSource(lambda: tmp_path / "phase", AlsRecipe(), 3)
    assert source.save(tmp_path / "copy") == {"kind": "als"}
    assert [entry.name for entry in (tmp_path / "copy").iterdir()] == ["numbers.npy"]
    (tmp_path / "phase" / "files" / "numbers.npy").write_bytes(b"124")
    with pytest.raises(SegueError, match=r"copy of .*/phase/files: numbers\.npy: expected sha256 .*: the file was changed"):
        source.save(tmp_path / "copy")


def test_a_worker_waits_for_nobody_to_listen() -> None:
    board, heard = ReportQueue(), list[Any]()
    for call in range(MOST_WAITING + 5):
        board.put(("als", call / 2000, {"loss": float("nan")}))
    heard += board.take()
    assert [heard[0][1], heard[-1][1], len(heard)] == [5 / 2000, (MOST_WAITING + 4) / 2000, MOST_WAITING]
    assert board.take() == []


def test_too_many_calls_under_way_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PendingCallsLimitExceeded("full")

    report = RemoteReport(SimpleNamespace(put=SimpleNamespace(remote=refuse)))
    report("als", 1.0, {})
    report.say("a line")


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"),
    [(1, 0, 10), (3, 0, 2), (4, 0, 2), (5, 0, 0), (1, 1, 2), (2, 2, 1), (1, 3, 0)],
)
def test_a_worker_is_on_one_node(cpus: int, gpus: int, expected: int) -> None:
    assert room([{"CPU": 4.0}, {"CPU": 4.0, "GPU": 2.0}, {"CPU": 2.0, "memory": 1e9}, {}], cpus, gpus) == expected


def test_a_worker_that_sees_less_says_so(dataset: Path, tmp_path: Path) -> None:
    run = storage_of(tmp_path / "storage", "one", CONFIG, 1)
    work = TrainingJob(dataset, read_manifest(dataset).fingerprint, run, CONFIG, 1, 1, silent)
    with pytest.raises(SegueError, match=f"{tmp_path}/storage.*: expected a storage that all workers see, found none on {gethostname()}"):
        work.open_dataset()
    with run.locked():
        assert work.open_dataset().fingerprint == work.fingerprint
        nowhere = replace(work, dataset=tmp_path / "nowhere")
        with pytest.raises(SegueError, match=f"nowhere: expected the dataset at this path on every node, found none on {gethostname()}"):
            nowhere.open_dataset()


def test_others_are_named_and_left(dataset: Path, out: Path) -> None:
    other = storage_of(out.parent / STORAGE, "other", CONFIG, 1)
    with other.locked(), other.keep("masked 1/als") as folder:
        (folder / "rows").write_bytes(bytes(3 << 20))
    (out.parent / STORAGE / "mine").mkdir()
    said: list[str] = []
    at(out, dataset, say=said.append)
    assert [line.split(" of another training")[0] for line in said] == [f"{other.address('')}: 3.0 MiB"]
    assert other.has("masked 1/als")


def test_every_query_is_one_workers(dataset: Path) -> None:
    split = masked(Dataset.open(dataset), CONFIG)
    chosen = learn_from(split, CONFIG)
    shares = [share_of(split, chosen, worker, 3) for worker in range(3)]
    assert np.array_equal(np.sort(np.concatenate(shares)), chosen)
    assert min(len(share) for share in shares) > 0
    assert np.array_equal(share_of(split, chosen, 0, 1), chosen)


def test_rankers_that_differ_are_an_error(undisturbed: tuple[Manifest, Path, Heard], monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = LambdaMart(ranker_text(undisturbed[1]))
    monkeypatch.setattr(parallel, "broadcast", lambda own: own + 1)
    monkeypatch.setattr(parallel, "worker_rank", lambda: 1)
    with pytest.raises(SegueError, match=r"expected all workers to end with the model of sha256 .*on worker 1"):
        plan.require_same_on_all_workers(ranker)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world of `dataset` with a third more playlists, and tracks that were in none before."""
    return make_dataset(tmp_path_factory.mktemp("grown"), playlists=400)


def test_a_warm_start_keeps_the_ranker_and_takes_a_fraction_of_the_sweeps(
    undisturbed: tuple[Manifest, Path, Heard], grown: Path, out: Path
) -> None:
    older, heard = PreviousModel.at(undisturbed[1]), Heard()
    manifest = at(out, grown, older.config, previous=older, report=heard)
    assert set(heard.done) == {"start", *EVERY}
    assert heard.shares["als"] == [1.0]
    assert ranker_text(out) == ranker_text(undisturbed[1])
    assert manifest.metrics["from"] == {"version": undisturbed[0].version, "effort": 0.25}
    assert figures(manifest)["artifact"]["started from"] == undisturbed[0].version
    assert manifest.num_tracks == read_manifest(grown).num_tracks
    model = load_model(out)
    assert (model.pipeline.recommend(Queries.of([Query(model.names.playlists.tracks.values[:5])]), 10).ranking.tracks >= 0).all()


def test_an_older_model_that_is_none_is_one_line(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SegueError, match=r"expected a readable folder with manifest\.json"):
        PreviousModel.at(tmp_path)
    with pytest.raises(SegueError, match="--effort: expected more than 0 and at most 1, found 0"):
        PreviousModel.at(tmp_path, 0)
