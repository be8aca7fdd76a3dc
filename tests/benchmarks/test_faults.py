"""Mutants of the golden artifact: changed as their seed says, and none of them harms who opens it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import faults, mutants
from benchmarks.faults import GOLDEN, change
from benchmarks.trials import tried
from engine.artifact import MANIFEST, Artifact, open_artifact, version_of
from engine.model import load_model, open_names, open_second_stage, open_source
from features.domain import SegueError
from tests.documents import ROOT


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    zipfile.ZipFile(GOLDEN).extractall(tmp_path / "artifact")
    return tmp_path / "artifact"


def tree(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


# --- the mutants ---


@pytest.mark.parametrize("seed", range(20))
def test_a_mutant_is_sealed_and_differs_in_one_file(golden: Path, seed: int) -> None:
    before = tree(golden)
    mutation = change(golden, random.Random(seed))
    after = tree(golden)
    assert {name for name in before if before[name] != after[name]} - {MANIFEST} == {mutation.file} - {MANIFEST}
    assert before[MANIFEST] != after[MANIFEST]
    if mutation.file != MANIFEST:
        assert open_artifact(golden).manifest.files[mutation.file].sha256 == after[mutation.file]


def test_the_same_seed_makes_the_same_mutant(golden: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(GOLDEN).extractall(tmp_path / "other")
    first, second = (change(folder, random.Random(5)) for folder in (golden, tmp_path / "other"))
    assert first == second
    assert tree(golden) == tree(tmp_path / "other")


def test_a_file_that_has_other_links_keeps_them_as_they_were(golden: Path) -> None:
    other = golden.parent / "linked.npy"
    other.hardlink_to(golden / "facts" / "counts.npy")
    before = other.read_bytes()
    mutants.mutate(golden, ["facts/counts.npy"], random.Random(0))
    assert other.read_bytes() == before != (golden / "facts" / "counts.npy").read_bytes()


# --- trials ---


def fails() -> None:
    raise RuntimeError("broken")


def is_refused() -> None:
    raise SegueError("expected one line, found two")


def lacks_memory() -> None:
    np.ones(1 << 40)


def never_ends() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("do", "ended", "said"),
    [
        (lambda: {"a": 1}, "result", "{'a': 1}"),
        (is_refused, "refused", "expected one line, found two"),
        (fails, "traceback", "RuntimeError: broken"),
        (lambda: float("nan"), "traceback", "ValueError"),
        (lacks_memory, "machine", "MemoryError"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "signal", "SIGKILL"),
        (never_ends, "hang", "SIGALRM"),
    ],
    ids=["result", "refused", "traceback", "no JSON", "memory", "signal", "hang"],
)
def test_a_trial_says_how_it_ended(do: Callable[[], object], ended: str, said: str) -> None:
    trial = tried(do, 1)
    assert (trial.ended, said in str(trial.said)) == (ended, True)


# --- nobody is harmed ---


def opened(artifact: Artifact, name: str) -> object:
    """The part of the artifact that the file belongs to."""
    match name.split("/"):
        case ["sources", source, _]:
            return open_source(artifact, source)
        case ["facts" | "ranker", _]:
            return open_second_stage(artifact)
    return open_names(artifact)


def refusal(artifact: Artifact, name: str) -> str | None:
    try:
        opened(artifact, name)
    except SegueError as error:
        return str(error)
    return None


def seal(folder: Path, name: str) -> Artifact:
    content, path = json.loads((folder / MANIFEST).read_text()), folder / name
    content["files"][name] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}
    (folder / MANIFEST).write_text(json.dumps(content | {"version": version_of(content)}))
    return open_artifact(folder, verify="size")


BROKEN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "another type": lambda array: array.astype(np.int64 if array.dtype == np.float64 else np.float64),
    "a row more": lambda array: np.concatenate([array, array[-1:]]),
    "one number that no part may hold": lambda array: np.where(
        np.arange(array.size).reshape(array.shape) == array.size - 1,
        np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).min,
        array,
    ).astype(array.dtype),
}


ANY_LENGTH = {("sources/related/artist_vectors.npy", "a row more")}


def test_no_array_is_read_by_that_is_not_what_its_part_says(golden: Path) -> None:
    """Every array of every kind of source, of the facts and of the playlists."""
    names = sorted(name for name in open_artifact(golden).manifest.files if name.endswith(".npy"))
    assert len(names) > 80
    bad = []
    for name in names:
        whole = (golden / name).read_bytes()
        for how, broken in BROKEN.items():
            np.save(golden / name, broken(np.load(golden / name)))
            if (golden / name).read_bytes() != whole and (name, how) not in ANY_LENGTH:
                found = refusal(seal(golden, name), name)
                if not found or not re.search(rf"{Path(name).parent.name}.*: expected .+, found ", found):
                    bad.append((name, how, found))
            (golden / name).write_bytes(whole)
    assert bad == []
    assert opened(seal(golden, names[0]), names[0])


FEW_FILES = 60


def with_few_files(path: Path) -> object:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, most))
    try:
        return repr(load_model(path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def test_too_few_open_files_are_the_machines_refusal_and_no_fault_of_the_artifact(golden: Path) -> None:
    trial = tried(lambda: with_few_files(golden), 30)
    assert (trial.ended, "Too many open files" in str(trial.said)) == ("machine", True), trial.said


@pytest.mark.slow
def test_mutants_answer_or_are_refused_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", faults.__name__, "--mutants", "60", "--seconds", "12", "--out", str(tmp_path / "out.json")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["bad"] == []
    assert result["ends"]["refused in one line"] > 5
