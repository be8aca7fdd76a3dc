"""synth, ingest and describe as a person calls them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine import __main__ as command_line
from features import dataset
from features.dataset import Dataset


@pytest.fixture
def segue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Segue:
    return Segue(monkeypatch, capsys)


class Segue:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)"""
        self._monkeypatch.setattr(sys, "argv", ["segue", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            command_line.main()
        shown = self._capsys.readouterr()
        return int(left.value.code or 0), shown.out, shown.err


def test_synth_ingest_describe(segue: Segue, tmp_path: Path) -> None:
    assert segue("synth", tmp_path / "w", "--playlists", 50, "--tracks", 500)[0] == 0
    files = ("--tracks", tmp_path / "w" / "audio_features.parquet", "--challenge", tmp_path / "w" / "challenge.json")
    code, out, err = segue("ingest", tmp_path / "w" / "mpd.zip", "--out", tmp_path / "d", *files)
    assert (code, err) == (0, "reading: done\nindexing: done\n")
    assert "challenge playlists" in out
    assert Dataset.open(tmp_path / "d").interactions.num_playlists == 100
    code, out, err = segue("describe", tmp_path / "d")
    assert (code, err) == (0, "")
    assert all(heading in out for heading in ("counts", "tracks per playlist", "playlists per track", "known of the tracks", "sparsity"))


@pytest.mark.parametrize("command", ["synth", "ingest", "describe"])
def test_every_command_has_an_example(segue: Segue, command: str) -> None:
    code, out, _ = segue(command, "--help")
    assert code == 0
    assert f"Example: segue {command}" in out


def test_bad_input_is_one_line_and_code_2(segue: Segue, tmp_path: Path) -> None:
    code, out, err = segue("ingest", tmp_path / "none.zip", "--out", tmp_path / "d")
    assert (code, out) == (2, "")
    assert err == f"segue: {tmp_path / 'none.zip'}: expected a file or folder, found nothing of that name\n"
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_ingest_is_code_2(segue: Segue, tmp_path: Path) -> None:
    code, _, err = segue("ingest", "--out", tmp_path / "d")
    assert (code, err.count("\n")) == (2, 1)
    assert "expected at least one SOURCE" in err


@pytest.mark.parametrize("arguments", [("synth",), ("synth", "w", "--playlists", "0"), ("nonsense",), ("describe", "--loud", "x")])
def test_a_wrong_call_is_code_2(segue: Segue, arguments: tuple[str, ...]) -> None:
    code, _, err = segue(*arguments)
    assert code == 2
    assert "Usage" in err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(28, "No space left on device", "/disk/d"), 1, "segue: /disk/d: No space left on device\n"),
        (PermissionError(13, "Permission denied", "/root/d"), 1, "segue: /root/d: Permission denied\n"),
        (MemoryError(), 1, "segue: the machine is out of memory\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    segue: Segue, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    def refuse(path: Path) -> Dataset:
        raise error

    monkeypatch.setattr(dataset.Dataset, "open", refuse)
    left, _, err = segue("describe", "d")
    assert (left, err) == (code, line)
