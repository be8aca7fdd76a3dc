"""Every command as a person calls it: what it prints, what it writes, and one clear line where it cannot."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from engine.model import Model
from features import dataset
from features.dataset import Dataset
from tests.command_line import Segue


def test_synth_ingest_describe(segue: Segue, tmp_path: Path) -> None:
    assert segue("synth", tmp_path / "w", "--playlists", 50, "--tracks", 500)[0] == 0
    files = ("--tracks", tmp_path / "w" / "audio_features.parquet", "--challenge", tmp_path / "w" / "challenge.json")
    code, out, err = segue("ingest", tmp_path / "w" / "mpd.zip", "--out", tmp_path / "d", *files)
    assert code == 0
    assert [line.split("s  ")[1] for line in err.splitlines()] == ["reading: done", "indexing: done"]
    assert "challenge playlists" in out
    assert Dataset.open(tmp_path / "d").interactions.num_playlists == 100
    code, out, err = segue("describe", tmp_path / "d")
    assert (code, err) == (0, "")
    assert all(heading in out for heading in ("counts", "tracks per playlist", "playlists per track", "known of the tracks", "sparsity"))


@pytest.mark.parametrize("command", ["synth", "ingest", "describe", "train", "evaluate", "recommend", "serve", "bench", "demo"])
def test_every_command_has_an_example(segue: Segue, command: str) -> None:
    code, out, _ = segue(command, "--help")
    assert code == 0
    assert f"segue {command}" in out
    assert "Example" in out


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
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("segue: ")
    assert "segue --help" in err


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


SMALL = """
sources:
  als: {factors: 8, iterations: 2}
  autoencoder: null
  content: {kind: contractive, dim: 4, epochs: 1}
examples: {playlists: 60, misses: 40}
ranker: {num_iterations: 5, num_leaves: 7, min_data_in_leaf: 5}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path / "small.yaml"


@pytest.mark.slow
def test_train_evaluate_recommend(segue: Segue, world: Path, small: Path, tmp_path: Path) -> None:
    artifact, submission, report = tmp_path / "artifact", tmp_path / "s.csv", tmp_path / "report.json"
    code, out, err = segue("train", world / "dataset", "--out", artifact, "--config", small, "--workers", 0)
    assert code == 0, err
    assert "9 sources" in out
    code, out, _ = segue("describe", artifact)
    assert code == 0
    assert all(word in out for word in ("version", "how each index was chosen", "share of the ranker's gain"))
    files = ("--challenge", world / "challenge.json", "--truth", world / "truth.parquet")
    code, out, _ = segue("evaluate", artifact, *files, "--json", report)
    assert code == 0
    assert all(word in out for word in ("ranker", "fusion", "popularity", "title only", "recall_ceiling"))
    lists = json.loads(report.read_text())["lists"]
    assert lists["ranker"]["ndcg@500"]["value"] > lists["popularity"]["ndcg@500"]["value"]
    code, out, _ = segue("recommend", artifact, "--challenge", world / "challenge.json", "--out", submission)
    assert code == 0
    rows = list(csv.reader(submission.read_text().splitlines()))
    assert rows[0][0] == "team_info"
    asked = json.loads((world / "challenge.json").read_text())["playlists"]
    assert {int(row[0]) for row in rows[1:]} == {playlist["pid"] for playlist in asked}


def test_recommend_for_every_playlist(segue: Segue, world: Path, tiny_artifact: Path, tiny_model: Model, tmp_path: Path) -> None:
    data = Dataset.open(world / "dataset")
    for source in ((), ("--source", "neighbours")):
        code, _, err = segue(
            "recommend", tiny_artifact, "--playlists", world / "dataset", "--out", tmp_path / "a.parquet", "-k", 5, *source
        )
        assert code == 0, err
        table = pl.read_parquet(tmp_path / "a.parquet")
        assert table.columns == ["playlist_id", "rank", "track_id", "score"]
        assert table["rank"].max() == 5
        first = table.filter(pl.col("playlist_id") == data.playlists["playlist_id"][0])
        held = set(data.vocabulary.ids(data.interactions.tracks_of(0)))
        assert not held & set(first["track_id"].to_list())
        assert first["score"].is_sorted(descending=True)


def test_recommend_on_the_terminal(segue: Segue, tiny_artifact: Path, tiny_model: Model) -> None:
    track = tiny_model.names.vocabulary.ids([0])[0]
    code, out, err = segue("recommend", tiny_artifact, "--track", track, "--track", "unknown", "--title", "rock", "-k", 3, "--explain")
    assert code == 0
    assert "unknown track unknown is left out" in err
    assert "what counted" in out
    assert sum(line.strip().startswith(("1 ", "2 ", "3 ")) for line in out.splitlines()) == 3
    code, out, _ = segue("recommend", tiny_artifact, "-k", 2)
    assert code == 0
    assert "popularity 1" in out


def bad_calls(world: Path, artifact: Path, out: Path) -> dict[str, tuple[tuple[object, ...], str]]:
    """By name: a call, and what its one line must say."""
    challenge, truth = world / "challenge.json", world / "truth.parquet"
    return {
        "train: no dataset": (("train", out / "none", "--out", out / "x"), "nothing of that name"),
        "train: no such config": (("train", world / "dataset", "--out", out / "x", "--config", out / "none.yaml"), "expected a YAML file"),
        "evaluate: no artifact": (("evaluate", out / "none", "--challenge", challenge, "--truth", truth), "none"),
        "evaluate: no challenge": (("evaluate", artifact, "--challenge", out / "none", "--truth", truth), "found no file of that name"),
        "evaluate: truth is no table": (("evaluate", artifact, "--challenge", challenge, "--truth", challenge), "expected a truth table"),
        "recommend: no out": (("recommend", artifact, "--challenge", challenge), "expected --out FILE"),
        "recommend: both": (("recommend", artifact, "--challenge", challenge, "--playlists", world / "dataset"), "found both"),
        "recommend: no such source": (
            ("recommend", artifact, "--playlists", world / "dataset", "--out", out / "x.parquet", "--source", "oracle"),
            "expected one of als",
        ),
        "serve: no artifact": (("serve", out / "none"), "none"),
    }


@pytest.mark.parametrize("name", list(bad_calls(Path(), Path(), Path())))
def test_bad_input_is_one_line_and_leaves_nothing(segue: Segue, world: Path, tiny_artifact: Path, tmp_path: Path, name: str) -> None:
    arguments, says = bad_calls(world, tiny_artifact, tmp_path)[name]
    code, out, err = segue(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("segue: ")
    assert err.count("\n") == 1
    assert says in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("k", ["0", "501", "-1"])
def test_k_out_of_bounds_is_code_2(segue: Segue, tiny_artifact: Path, k: str) -> None:
    assert segue("recommend", tiny_artifact, "-k", k) == (2, "", f"segue: -k: expected 1 to 500, found {k}\n")


def test_another_version_of_the_artifact_is_refused(segue: Segue, tiny_artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_artifact, tmp_path / "a")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    (tmp_path / "a" / "manifest.json").write_text(json.dumps({**manifest, "format_version": 1}))
    code, _, err = segue("recommend", tmp_path / "a")
    assert code == 2
    assert "expected 3, found 1" in err


def test_an_unknown_setting_is_refused_by_name(segue: Segue, world: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("sources: {als: {dims: 8}}")
    code, _, err = segue("train", world / "dataset", "--out", tmp_path / "x", "--config", tmp_path / "c.yaml")
    assert code == 2
    assert "sources.als.dims" in err
    assert not (tmp_path / "x").exists()
