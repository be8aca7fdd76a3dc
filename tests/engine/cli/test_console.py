"""Strangers' text on the terminal, and terminals that are narrow."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engine.cli import console
from engine.cli.plain_text import plain

TITLES = ["Song [live]", "[dunkelbunt]", "[/x]", "[bold]loud", ":smile:", "日本の歌", "👩\u200d🎤"]


@pytest.mark.parametrize("title", TITLES)
def test_a_title_is_shown_as_it_is(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.show_rows("[what] comes next", ["rank", "[title]"], [[1, title]])
    console.show("[heading]", {title: title})
    with console.shown_progress() as report:
        report(title, 1.0)
    out, err = capsys.readouterr()
    assert out.count(title) == 3
    assert {"[what] comes next", "[title]", "[heading]"} <= {part.strip() for line in out.splitlines() for part in line.split("  ")}
    assert title in err


def test_what_a_terminal_would_obey_is_spelled(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b[2J\x1b]0;owned\x07b\u202ec\r\n\x9b1m"
    console.show_rows("titles", ["title"], [[hostile]])
    console.show("titles", {hostile: hostile})
    out, _ = capsys.readouterr()
    assert not {"\x1b", "\x07", "\u202e", "\r", "\x9b"} & set(out)
    assert out.count(r"a\x1b[2J\x1b]0;owned\x07b\u202ec\r\n\x9b1m") == 3
    assert plain("a title of é, ß, 字 and 👩\u200d🎤") == "a title of é, ß, 字 and 👩\u200d🎤"


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_names_and_figures_stay_whole_on_a_narrow_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "UNFOLDED", width)
    names, figures = ["a list with a long name", "ranker"], [0.0667, 12_345.6789]
    console.show_rows("every list", ["list", "r_precision", "ndcg", "clicks", "recall@500"], [[name, *figures, *figures] for name in names])
    console.show("artifact", {"masked playlists checked": 1_234_567, "created": "2026-12-01T02:17:45+00:00"})
    out, _ = capsys.readouterr()
    for text in [*names, "0.0667", "12,345.6789", "masked playlists checked", "1,234,567"]:
        assert text in out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= width


def test_where_few_characters_are_known_the_others_are_spelled() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    command = [sys.executable, "-m", "engine", "describe", "Köln\x1b"]
    run = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=60)
    assert run.returncode == 2
    assert (run.stderr.count(b"\n"), rb"ln\x1b: expected" in run.stderr) == (1, True)
    assert run.stderr.isascii()


def test_it_says_its_version() -> None:
    run = subprocess.run([sys.executable, "-m", "engine", "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.startswith("segue ")
