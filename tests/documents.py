"""What the documents promise, taken apart: code blocks, commands, links; and their commands run on a small world."""

from __future__ import annotations

import ast
import io
import re
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer

from engine import __main__ as command_line
from engine.cli.bench import CHECKOUT, FOLDER, benchmarks
from features.synthetic import write_world

ROOT = Path(__file__).parent.parent
README, LOG = ROOT / "README.md", ROOT / "docs" / "log.md"
GUIDES = sorted(ROOT.glob("docs/*.md"))
PAGES = [README, ROOT / "DESIGN.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md", *GUIDES]
SMALL = """
sources: {als: {factors: 8, iterations: 2}, autoencoder: null, content: {kind: contractive, dim: 4, epochs: 1}}
examples: {playlists: 60, misses: 40}
ranker: {num_iterations: 5, num_leaves: 7, min_data_in_leaf: 5}
"""
"""What a document's training lacks to be done in seconds."""
NEEDS_A_SERVICE = ("serve", "deploy", "bench")
"""Commands that are not run here: the real ones are in test_serve_cluster.py, test_faults_cluster.py and tests/benchmarks."""


def blocks(page: Path, language: str = "") -> list[str]:
    """The code blocks of one language; "" for those that name none."""
    found: list[tuple[str, list[str]]] = []
    block: tuple[str, list[str]] | None = None
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            if block is None:
                block = (line[3:].strip(), [])
            else:
                found.append(block)
                block = None
        elif block is not None:
            block[1].append(line)
    return ["\n".join(lines) + "\n" for named, lines in found if named == language]


@dataclass(frozen=True)
class Command:
    """One `segue …` of a document."""

    name: str
    arguments: tuple[str, ...]
    on_a_cluster: bool
    """It names one, by RAY_ADDRESS or as a Ray job."""

    @property
    def can_run(self) -> bool:
        return not self.on_a_cluster and self.name not in NEEDS_A_SERVICE

    def __str__(self) -> str:
        return " ".join((self.name, *self.arguments))


def commands(page: Path) -> list[Command]:
    """Every `segue …` line of a page's code blocks, in order, also behind RAY_ADDRESS=… and inside `ray job submit … --`."""
    lines = [line for block in blocks(page) for line in block.splitlines()]
    called = [re.match(r"(RAY_ADDRESS=\S+ |ray job submit .* -- )?(?:segue|python -m engine) (.*)", line) for line in lines]
    found = [(shlex.split(match[2], comments=True), bool(match[1])) for match in called if match]
    return [Command(words[0], tuple(words[1:]), on_a_cluster) for words, on_a_cluster in found]


def require_known_options(command: Command) -> None:
    """The command line, or the benchmark, takes these arguments; nothing is run."""
    if command.name == "bench":
        source = (CHECKOUT / FOLDER / f"{command.arguments[0]}.py").read_text(encoding="utf-8")
        assert command.arguments[0] in benchmarks()
        assert [word for word in command.arguments if word.startswith("--") and f'"{word}"' not in source] == []
    else:
        group: Any = typer.main.get_command(command_line.app)
        group.commands[command.name].make_context(command.name, list(command.arguments))


@dataclass
class Place:
    """A folder with a small world, where the commands of documents run; a command that ran already is not run again."""

    folder: Path
    ran: set[tuple[str, ...]] = field(default_factory=set)

    @classmethod
    def of(cls, folder: Path) -> Place:
        write_world(folder, playlists=200, tracks=600)
        (folder / "settings.yaml").write_text(SMALL)
        rows = [(playlist, track, track * 3) for playlist in range(30) for track in range(playlist % 7, 40, 3)]
        pl.DataFrame(rows, ["playlist_id", "track_id", "timestamp"], orient="row").write_parquet(folder / "table.parquet")
        place = cls(folder)
        place.run(Command("ingest", ("mpd.zip", "--tracks", "audio_features.parquet", "--out", "newer-dataset"), False))
        return place

    def run(self, command: Command) -> None:
        """It ends with code 0; a training is made small and stays in this process."""
        words = (command.name, *(_small(command.arguments) if command.name == "train" else command.arguments))
        if words in self.ran:
            return
        errors = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()), redirect_stderr(errors):
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["segue", *words])
            with pytest.raises(SystemExit) as left:
                command_line.main()
        assert not left.value.code, (str(command), errors.getvalue())
        self.ran.add(words)

    def value(self, source: str) -> Any:
        """What the last expression of a Python block comes to, with a track of the small world in the place of the real one."""
        some_track = pl.read_parquet(self.folder / "dataset" / "vocabulary.parquet")["track_id"][0]
        module = ast.parse(re.sub(r"spotify:track:\w+", some_track, source))
        last = module.body.pop()
        assert isinstance(last, ast.Expr)
        names: dict[str, Any] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            exec(compile(module, "block", "exec"), names)
            return eval(compile(ast.Expression(last.value), "block", "eval"), names)


def _small(arguments: tuple[str, ...]) -> tuple[str, ...]:
    text = re.sub(r" --(workers|config) \S+", "", " ".join(arguments))
    settings = () if "--from" in arguments else ("--config", "settings.yaml")
    return (*text.split(), *settings, "--workers", "0")


def links(page: Path) -> list[str]:
    """What a page's links and pictures point to, inside the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [link for link in found if "://" not in link]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
