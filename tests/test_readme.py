"""The README keeps its word: its commands and its Python run as written, its tree is complete, its figures are those of the raw results."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import README, ROOT, Place, blocks, commands, require_known_options

pytestmark = pytest.mark.timeout(900)
"""The first test that needs the small world waits for its training."""
TEXT = README.read_text(encoding="utf-8")
PACKAGES = ("features", "stages", "engine")
COLUMN = 20
"""What stands further to the right than this, with nothing before it, are modules of the folder above."""


@pytest.mark.slow
def test_the_commands_run_as_written(readme_place: Place) -> None:
    """The fixture ran all that can be run here."""
    ran = {words[0] for words in readme_place.ran}
    assert {"ingest", "describe", "train", "evaluate", "recommend"} <= ran
    assert "serve" in {command.name for command in commands(README)}
    for command in commands(README):
        require_known_options(command)


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks(README, "python"))
def test_the_python_lines_run_as_written(readme_place: Place, block: str) -> None:
    assert len(readme_place.value(block)) == 10


def test_it_has_python() -> None:
    assert len(blocks(README, "python")) == 2


def tree() -> list[str]:
    """Every path that the tree names, folders with a slash at their end."""
    named, parents = [], [""]
    for line in TEXT.split("## Where things are")[1].split("```")[1].strip().splitlines():
        indent, words = len(line) - len(line.lstrip()), line.split()
        if indent > COLUMN:
            named += [f"{parents[0]}{word}.py" for word in words]
        elif words[0].endswith("/"):
            parents = [words[0]] if indent == 0 else parents
            named.append(words[0] if indent == 0 else parents[0] + words[0])
        else:
            named += words
    return named


def test_every_file_of_the_tree_is_there() -> None:
    assert len(tree()) > 20
    assert [path for path in tree() if not (ROOT / path).exists()] == []


def test_the_tree_is_complete() -> None:
    folders = [path.parent for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    modules = [path for package in PACKAGES for path in (ROOT / package).glob("*.py") if not path.stem.startswith("__")]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    top = {Path(path).parts[0] + ("/" if "/" in path else "") for path in tracked if not path.startswith(".")}
    there = {f"{path.relative_to(ROOT)}/" for path in folders} | {str(path.relative_to(ROOT)) for path in modules} | top
    assert there - set(tree()) == set()


@pytest.mark.parametrize("target", re.findall(r"(?:^|`)make (\w+)", TEXT, flags=re.MULTILINE))
def test_every_target_is_in_the_makefile(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_the_figures_are_those_of_the_raw_results() -> None:
    checked = subprocess.run(
        [sys.executable, "benchmarks/tables.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_it_can_be_read_in_one_sitting() -> None:
    assert len(TEXT.split()) <= 1_000


def test_it_says_which_targets_are_not_reached() -> None:
    missed = re.findall(r"^- (.*): [\d.]+, target .*", TEXT, flags=re.MULTILINE)
    assert {"composed: p50 in ms, 1 client", "composed: requests/s, 16 clients", "fused: requests/s, 16 clients"} <= set(missed)
