"""`segue bench`: what there is, and a benchmark run where the caller stands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine.cli import bench
from tests.command_line import Segue


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_without_a_name_it_says_what_there_is(segue: Segue, arguments: tuple[str, ...]) -> None:
    code, out, _ = segue("bench", *arguments)
    assert code == 0
    assert {"contractive", "genre", "reference", "retrieval", "serving"} <= {line.split()[0] for line in out.splitlines() if line.split()}
    assert "How fast the service answers" in out
    assert not {"tables", "published"} & set(bench.benchmarks())


def test_an_unknown_name_is_one_line(segue: Segue) -> None:
    code, _, err = segue("bench", "nonsense")
    assert (code, err.count("\n")) == (2, 1)
    assert "expected one of contractive, faults, genre," in err
    assert "found nonsense" in err


def test_an_installation_without_benchmarks_says_so(segue: Segue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    code, _, err = segue("bench", "genre")
    assert (code, err.count("\n")) == (2, 1)
    assert f"expected benchmarks in {tmp_path / 'benchmarks'}, found none" in err


@pytest.mark.slow
def test_its_arguments_its_folder_and_its_exit_code_are_the_callers(segue: Segue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("benchmarks").mkdir()
    Path("benchmarks", "contractive.py").write_text("raise SystemExit(7)")  # not ours
    energy = np.random.default_rng(0).random(40)
    pl.DataFrame({"track_id": [f"t{i}" for i in range(40)], "energy": energy}).write_parquet("tracks.parquet")
    assert segue("bench", "contractive", "tracks.parquet", "--sample", 20, "--out", "out.json")[0] == 0
    assert json.loads(Path("out.json").read_text())["tracks"] == 20
    assert segue("bench", "contractive", "--loud")[0] == 2
