"""The README keeps its word: its commands run as written, its files are there, its figures are those of the raw results."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from features.synthetic import write_world
from tests.command_line import Segue

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = """
sources: {als: {factors: 8, iterations: 2}, autoencoder: null, content: {kind: contractive, dim: 4, epochs: 1}}
examples: {playlists: 60, misses: 40}
ranker: {num_iterations: 5, num_leaves: 7, min_data_in_leaf: 5}
"""
IN_THIS_PROCESS = ["--config", "small.yaml", "--workers", "0"]
"""What the README's training lacks to be done in seconds."""


def commands() -> list[list[str]]:
    """Every `segue …` line of the README's code blocks, in order."""
    blocks = re.findall(r"^```\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.startswith("segue ")]


@pytest.mark.slow
def test_the_commands_run_as_written(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    segue, ran = Segue(monkeypatch, capsys), []
    write_world(tmp_path, playlists=200, tracks=600)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    for command in commands():
        _, name, *arguments = command
        if name == "train":
            arguments = [*(word for word in arguments if word not in ("--workers", "2")), *IN_THIS_PROCESS]
        if name in ("serve", "deploy"):  # real ones are in test_serve_cluster.py and test_faults_cluster.py
            arguments = ["--help"]
        code, _, err = segue(name, *arguments)
        assert code == 0, (command, err)
        ran.append(name)
    assert {"ingest", "describe", "train", "evaluate", "recommend", "serve"} <= set(ran)


def test_every_file_of_the_tree_is_there() -> None:
    tree = README.split("## Where things are")[1].split("```")[1]
    folder, named = "", []
    for line in tree.strip().splitlines():
        name = line.split()[0]
        folder = "" if not line.startswith(" ") and not name.endswith("/") else name if not line.startswith(" ") else folder
        named.append(name if name == folder else folder + name)
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, flags=re.MULTILINE))
def test_every_target_is_in_the_makefile(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_the_figures_are_those_of_the_raw_results() -> None:
    checked = subprocess.run(
        [sys.executable, "benchmarks/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr
