"""The reference systems on a synthetic world: every figure is there, and the order is compared, not claimed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import published, reference
from features.domain import SegueError
from features.ingest import ingest
from features.synthetic import write_world


def test_a_pair_that_stands_the_other_way_round_is_named() -> None:
    theirs = {"map": {"a": 0.1, "b": 0.3, "c": 0.2}, "mrr": {"a": 0.9, "b": 0.9}, "alone": {"a": 1.0}}
    assert published.turned(theirs, {"map": {"a": 1, "b": 3, "c": 2}, "mrr": {"a": 1, "b": 2}}) == {"map": []}
    ours = {"map": {"a": 0.1, "b": 0.2, "c": 0.2, "more": 9}, "mrr": {}}
    assert published.turned(theirs, ours) == {"map": ["b > c"]}  # equal is not larger


def test_a_sweep_is_needed_while_the_loss_falls() -> None:
    assert reference.needed([100, 50, 40, 39.99, 39.98]) == 3
    assert reference.needed([100, 50, 25]) == 3


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> argparse.Namespace:
    folder = tmp_path_factory.mktemp("reference")
    write_world(folder, playlists=150, tracks=600)
    ingest([folder / "mpd.zip"], folder / "dataset", folder / "audio_features.parquet")
    sizes = {"queries": 40, "sample": 60, "small": True}
    files = {"playlists": folder / "dataset", "albums": folder / "dataset", "tracks": folder / "audio_features.parquet"}
    return argparse.Namespace(**sizes, **files, genre=None, contractive=None, only=None)


@pytest.mark.slow
def test_all_five_are_measured_and_stand_beside_the_published(chosen: argparse.Namespace, tmp_path: Path) -> None:
    assert reference.wanted(chosen) == ["sessions", "factorization", "streaming", "content", "contractive"]
    for name in reversed(reference.wanted(chosen)):
        reference.keep(tmp_path / "out.json", name, reference.measure(name, chosen))
    systems = reference.kept(tmp_path / "out.json")
    assert list(systems) == reference.wanted(chosen)
    for name, system in systems.items():
        for figure, theirs in system["published"].items():
            assert set(theirs) <= set(system["figures"][figure]), (name, figure)
        assert system["turned"] == published.turned(system["published"], system["figures"])
        assert {"circumstances", "command"} <= set(system)
    assert systems["sessions"]["figures"]["personalization@10"]["popular"] < 0.5
    assert systems["streaming"]["figures"]["Annoy's recall@500"]["exact"] == 1
    assert len(reference.rows(systems)) == sum(len(system["figures"]) for system in systems.values())


def only(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{**dict.fromkeys(("playlists", "albums", "tracks", "genre", "contractive", "only")), **given})


def test_raw_results_that_are_there_are_taken(tmp_path: Path) -> None:
    runs = [{"changes": changes, "loss_percent": 1.0 + i} for i, changes in enumerate(reference.contractive.settings())]
    (tmp_path / "raw.json").write_text(json.dumps({"circumstances": {"measured": "before"}, "figures": runs}))
    chosen = only(contractive=tmp_path / "raw.json")
    assert reference.wanted(chosen) == ["contractive"]
    system = reference.measure("contractive", chosen)
    assert system["circumstances"] == {"measured": "before"}
    assert system["figures"]["loss in %, batch"] == {"4": 2.0, "10": 1.0, "20": 3.0}
    assert system["turned"]["loss in %, batch"] == ["10 > 4"]


@pytest.mark.parametrize("chosen", [only(), only(playlists=Path("d"), only=["content"])])
def test_nothing_to_measure_is_an_error(chosen: argparse.Namespace) -> None:
    with pytest.raises(SegueError, match=r"expected at least one of --playlists.* found none"):
        reference.wanted(chosen)
