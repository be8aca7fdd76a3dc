"""The guides keep their word: commands run, links and paths are there, settings are those of the code, the log has its form."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

from engine.config import Config, presets
from stages.settings import Settings
from tests.documents import GUIDES, LOG, PAGES, README, ROOT, Command, Place, anchors, blocks, commands, links, require_known_options

pytestmark = pytest.mark.timeout(900)
"""The first test that needs the small world waits for its training."""
of_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for page in PAGES if page != README for command in commands(page)], ids=str)
def test_the_commands_run_as_written(readme_place: Place, command: Command) -> None:
    require_known_options(command)
    if command.can_run:
        readme_place.run(command)


def test_the_guides_have_commands() -> None:
    assert {page.stem for page in GUIDES if commands(page)} == {"cluster", "data-formats", "serving", "settings"}


@of_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_modules_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:engine|stages|features|benchmarks|docs|tests)/[\w./-]*)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    for name in re.findall(r"`((?:engine|stages|features)\.[\w.]+)`", text):
        resolve_name(name)


@of_page
def test_yaml_is_a_config(page: Path) -> None:
    for block in blocks(page, "yaml"):
        Config.model_validate(yaml.safe_load(block))


def test_the_settings_are_those_of_the_code() -> None:
    checked = subprocess.run(
        [sys.executable, "docs/settings.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_the_settings_name_every_preset() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in presets() if f"`{name}`" not in text] == []


def test_the_design_is_short() -> None:
    assert len((ROOT / "DESIGN.md").read_text(encoding="utf-8").splitlines()) < 150


ENTRY = re.compile(r"(\d{4}-\d{2}-\d{2}) \S.*")
PARTS = ["Question", "Tried", "Figures", "Decision"]


@pytest.mark.parametrize("entry", LOG.read_text(encoding="utf-8").split("\n## ")[1:], ids=lambda entry: entry.splitlines()[0])
def test_an_entry_of_the_log_has_its_form(entry: str) -> None:
    assert ENTRY.fullmatch(entry.splitlines()[0])
    assert re.findall(r"^- \*\*(\w+):\*\* \S", entry, flags=re.MULTILINE) == PARTS


def test_the_log_is_oldest_first() -> None:
    dates = [ENTRY.match(entry) for entry in LOG.read_text(encoding="utf-8").split("\n## ")[1:]]
    found = [match[1] for match in dates if match]
    assert len(found) >= 70
    assert found == sorted(found)


def test_the_changelog_has_the_usual_headings() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    kinds = set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert re.search(r"^## \[Unreleased\]$", text, flags=re.MULTILINE)
    assert "**Upgrade:**" in text


def test_the_changelog_names_every_setting_that_was_renamed() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    renamed = [pair for settings in all_settings(Settings) for pair in settings.old_names.items()]
    assert len(renamed) >= 10
    assert [pair for pair in renamed if "| `{}` | `{}` |".format(*pair) not in text] == []


def all_settings(owner: type[Settings]) -> Iterator[type[Settings]]:
    for one in owner.__subclasses__():
        yield one
        yield from all_settings(one)
