"""A model is tried in a process of its own: what is wrong with it is one line, whatever becomes of that process."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from engine.trial import tried_apart
from features.domain import SegueError


def test_a_sound_model_passes(tiny_artifact: Path) -> None:
    tried_apart(tiny_artifact)


def test_what_does_not_open_is_the_line_that_opening_it_here_would_be(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match=r"expected a readable folder with manifest\.json") as caught:
        tried_apart(tmp_path / "none")
    assert "\n" not in str(caught.value)


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    """What is run instead of Python, and of the trial with it."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))


def test_a_process_that_a_model_ended_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "kill -SEGV $$")
    with pytest.raises(SegueError, match=r"model: expected answers when it was tried, found SIGSEGV\. Train again"):
        tried_apart(tmp_path / "model")


def test_a_model_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    start = time.monotonic()
    with pytest.raises(SegueError, match=r"expected answers within 0\.5 s when it was tried, found none"):
        tried_apart(tmp_path / "model", timeout_s=0.5)
    assert time.monotonic() - start < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("exit 3", r"model: expected answers when it was tried, found exit code 3\. Train again"),
        ("echo 'Traceback'; echo 'KeyError: 7' >&2; exit 1", r"model: expected answers when it was tried, found KeyError: 7\."),
        ("kill -KILL $$", r"found SIGKILL\. Look whether the machine has memory left"),
    ],
)
def test_whatever_else_ends_it_names_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, message: str) -> None:
    program(tmp_path, monkeypatch, lines)
    with pytest.raises(SegueError, match=message):
        tried_apart(tmp_path / "model")
