"""The command line in this process, as a test calls it."""

from __future__ import annotations

import sys

import pytest

from engine import __main__ as command_line


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
