"""What a person needs before `make demo`: which Python is taken, which packages are named, and what is installed without torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from engine import provenance
from tests.command_line import Segue

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMES = re.compile(r"^[A-Za-z0-9_-]+(\[[a-z,]+\])?")


def find_python(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", ROOT / "scripts/find-python"], env={"PATH": str(path)}, capture_output=True, text=True, timeout=60, check=False
    )


def command(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def test_the_newest_python_that_can_run_is_taken(tmp_path: Path) -> None:
    command(tmp_path, "python3.14", "exit 127")
    command(tmp_path, "python3.13", "echo 3.13.5 without ensurepip")
    command(tmp_path, "python3.12", "echo 3.12.1")
    command(tmp_path, "python3.11", "echo 3.11.7")
    command(tmp_path, "g++", "")
    assert find_python(tmp_path).stdout == f"{tmp_path / 'python3.12'}\n"


def test_its_check_runs_on_this_python(tmp_path: Path) -> None:
    command(tmp_path, "python3", f'exec {sys.executable} "$@"')
    found = find_python(tmp_path)
    assert found.returncode == 1
    assert "found python3 3." in found.stderr
    assert "and no C++ compiler. Install them" in found.stderr


@pytest.mark.parametrize(
    ("answer", "found"), [("exit 1", "found no python3."), ("echo 3.9.2 without ensurepip", "found python3 3.9.2 without")]
)
def test_without_a_usable_python_one_line_says_what_to_install(tmp_path: Path, answer: str, found: str) -> None:
    command(tmp_path, "python3", answer)
    command(tmp_path, "c++", "")
    result = find_python(tmp_path)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert found in result.stderr
    assert all(word in result.stderr for word in ("3.11 to 3.14", "apt-get install python3-venv python3-dev g++ make", "dnf", "brew"))


def test_the_readme_names_the_packages_that_make_names() -> None:
    """`make fresh` installs those of the README and no others."""
    (named,) = re.findall(r"^apt-get install -y (.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {"python3-venv", "python3-dev", "g++", "make"} <= set(named.split())


def test_torch_is_an_extra() -> None:
    needed = {match[0] for match in map(NAMES.match, PROJECT["dependencies"]) if match}
    assert "ray[serve]" in needed
    assert not {"torch", "ray[train]", "httpx"} & needed
    assert {"torch", "ray[train]"} <= set(PROJECT["optional-dependencies"]["train"])


@pytest.mark.parametrize("arguments", [("train", "dataset", "--out", "artifact"), ("demo",)])
def test_training_without_torch_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    segue = Segue(monkeypatch, capsys)
    monkeypatch.setattr("engine.__main__.find_spec", lambda name: None)
    code, _, err = segue(*arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert "expected torch, found none" in err
    assert "pip install 'segue[train]'" in err


def test_the_libraries_are_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "LIBRARIES", ("numpy", "no_such_library"))
    assert set(provenance.libraries()) == {"python", "numpy"}


def test_make_help_names_every_target() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60, check=True).stdout
    assert {target for target in targets if f"make {target}" not in shown} == {"help"}
