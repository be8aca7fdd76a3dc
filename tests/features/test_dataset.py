from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features import ingest as ingest_module
from features.dataset import Dataset
from features.describe import figures
from features.domain import SegueError
from features.ingest import ingest
from features.manifest import file_facts, fingerprint_of


@pytest.fixture
def dataset(slice_file: Path, tmp_path: Path) -> Path:
    ingest([slice_file], tmp_path / "d")
    return tmp_path / "d"


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((path / "dataset.json").read_text())
    change(manifest)
    (path / "dataset.json").write_text(json.dumps(manifest))


def test_the_manifest_names_sources_and_every_file(dataset: Path) -> None:
    manifest = json.loads((dataset / "dataset.json").read_text())
    assert (manifest["format_version"], manifest["sources"]) == (1, ["mpd.slice.0-1.json"])
    assert list(manifest["files"]) == ["catalog.parquet", "interactions/part-00000.parquet", "playlists.parquet", "vocabulary.parquet"]
    assert manifest["fingerprint"] == fingerprint_of(file_facts(dataset))
    assert (manifest["num_tracks"], manifest["num_playlists"], manifest["num_interactions"]) == (3, 2, 4)


def test_missing_and_foreign_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, found in [(tmp_path / "none", "nothing of that name"), (tmp_path, "a folder without it"), (tmp_path / "file", "a file")]:
        with pytest.raises(SegueError, match=rf"expected a dataset, a folder with dataset.json, found {found}"):
            Dataset.open(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(format_version=2, new=1), "expected format version 1, found 2"),
        (lambda manifest: manifest.pop("format_version"), "expected format version 1, found None"),
        (lambda manifest: manifest.pop("num_tracks"), "expected the facts of a dataset, found num_tracks: Field required"),
        (lambda manifest: manifest.update(colour="red"), "expected the facts of a dataset, found colour: Extra inputs"),
        (lambda manifest: manifest.update(num_tracks=4), "expected 4 tracks, found 3"),
        (lambda manifest: manifest.update(num_interactions=9), "expected 9 interactions, found 4"),
        (lambda manifest: manifest.update(num_playlists=1), "expected 1 playlists, found 2"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(dataset: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    rewritten(dataset, change)
    with pytest.raises(SegueError, match=message):
        Dataset.open(dataset)


def test_a_manifest_that_is_no_json_is_refused(dataset: Path) -> None:
    (dataset / "dataset.json").write_text("{")
    with pytest.raises(SegueError, match="expected format version 1, found None"):
        Dataset.open(dataset)


@pytest.mark.parametrize("name", ["catalog.parquet", "interactions/part-00000.parquet", "playlists.parquet", "vocabulary.parquet"])
def test_a_missing_or_shortened_file_is_named(dataset: Path, name: str) -> None:
    whole = (dataset / name).read_bytes()
    (dataset / name).write_bytes(whole[:-1])
    with pytest.raises(SegueError, match=rf"{name}: expected {len(whole)} bytes, found {len(whole) - 1}"):
        Dataset.open(dataset)
    (dataset / name).unlink()
    with pytest.raises(SegueError, match=rf"{name}: expected a file of {len(whole)} bytes, found none"):
        Dataset.open(dataset)


def test_a_changed_byte_is_found(dataset: Path) -> None:
    whole = (dataset / "catalog.parquet").read_bytes()
    (dataset / "catalog.parquet").write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    with pytest.raises(SegueError, match=r"catalog.parquet: expected sha256 \w{64}, found \w{64}: the file was changed"):
        Dataset.open(dataset)


def test_interactions_with_unknown_tracks_are_refused(dataset: Path) -> None:
    part = dataset / "interactions" / "part-00000.parquet"
    pl.read_parquet(part).with_columns(track_index=pl.lit(3, pl.Int32)).write_parquet(part)
    rewritten(dataset, lambda manifest: manifest["files"]["interactions/part-00000.parquet"].update(size=part.stat().st_size))
    with pytest.raises(SegueError, match="expected 4 interactions of known tracks, found 0"):
        Dataset.open(dataset)


@pytest.fixture(scope="module")
def in_parts(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,320 playlists in three parts: the last is the challenge."""
    out = tmp_path_factory.mktemp("parts") / "d"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_module, "_ROWS_PER_PART", 1)
        ingest([world / "mpd.zip"], out, None, [world / "challenge.json"])
    return out


@pytest.mark.parametrize(("start", "stop"), [(0, 1_320), (0, 400), (3, 4), (900, 1_250), (1_320, 1_320), (0, 0)])
def test_some_playlists_are_those_of_the_whole(in_parts: Path, start: int, stop: int) -> None:
    whole, some = Dataset.open(in_parts), Dataset.open(in_parts, playlists=(start, stop))
    expected = whole.interactions.of_playlists(np.arange(start, stop, dtype=np.int32))
    assert some.playlists.equals(whole.playlists[start:stop])
    assert (some.interactions.titles, some.interactions.num_tracks) == (expected.titles, whole.interactions.num_tracks)
    for name in ("tracks", "plays", "offsets", "followers"):
        assert getattr(some.interactions, name).tolist() == getattr(expected, name).tolist()
        assert getattr(some.interactions, name).dtype == getattr(expected, name).dtype


def test_parts_of_other_playlists_are_not_read(in_parts: Path, tmp_path: Path) -> None:
    copy = tmp_path / "d"
    shutil.copytree(in_parts, copy)
    part = copy / "interactions" / "part-00000.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    assert Dataset.open(copy, playlists=(1_000, 1_320)).interactions.num_playlists == 320
    with pytest.raises(SegueError, match=r"part-00000.parquet: expected a table of"):
        Dataset.open(copy)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 1_321)])
def test_playlists_there_are_not_are_refused(in_parts: Path, start: int, stop: int) -> None:
    with pytest.raises(SegueError, match=f"expected playlists within 0 to 1320, found {start} to {stop}"):
        Dataset.open(in_parts, playlists=(start, stop))


def test_a_dataset_can_be_moved(dataset: Path, tmp_path: Path) -> None:
    before = Dataset.open(dataset).fingerprint
    shutil.move(dataset, tmp_path / "elsewhere")
    assert Dataset.open(tmp_path / "elsewhere").fingerprint == before


def test_the_figures_are_those_of_the_playlists(dataset: Path) -> None:
    told = figures(Dataset.open(dataset))
    assert told["counts"] == {
        "playlists": 2,
        "challenge playlists": 0,
        "playlists with a title": 2,
        "tracks": 3,
        "tracks in no playlist": 0,
        "artists": 2,
        "interactions": 4,
        "sparsity": pytest.approx(1 / 3),
    }
    assert told["tracks per playlist"]["mean"] == 2.0
    assert told["playlists per track"]["max"] == 2
    assert (told["known of the tracks"]["title"], told["known of the tracks"]["energy"]) == (1.0, 0.0)


# --- from Python ---


def test_a_path_may_be_text(dataset: Path) -> None:
    assert Dataset.open(str(dataset)).fingerprint == Dataset.open(dataset).fingerprint


@pytest.mark.parametrize(("wrong", "found"), [(None, r"None \(NoneType\)"), (5, r"5 \(int\)"), (["dataset"], r"\['dataset'\] \(list\)")])
def test_what_is_no_path_is_named(wrong: object, found: str) -> None:
    with pytest.raises(SegueError, match=f"dataset: expected the path of a folder, as text or a Path, found {found}"):
        Dataset.open(wrong)  # type: ignore[arg-type]


def test_a_query_is_made_of_ids(dataset: Path) -> None:
    data = Dataset.open(dataset)
    one, two, three = data.vocabulary.track_ids
    asked = data.query(two, one, two, title="road trip", exclude=[three])
    assert (asked.seeds.tolist(), asked.title, asked.exclude.tolist()) == ([1, 0], "road trip", [2])
    assert (asked.seeds.dtype, asked.exclude.dtype) == (np.int32, np.int32)
    for ids in ([two, one], (two, one), iter((two, one)), pl.Series([two, one]), np.array([two, one])):
        assert data.query(ids).seeds.tolist() == [1, 0]
    assert data.query(two.removeprefix("spotify:track:"), exclude=three).seeds.tolist() == [1]


def test_a_title_alone_is_a_query(dataset: Path) -> None:
    asked = Dataset.open(dataset).query(title="road trip")
    assert (asked.seeds.tolist(), asked.seeds.dtype, asked.title) == ([], np.int32, "road trip")


@pytest.mark.parametrize("wrong", [5, None, 1.5, [5], ["known", None]])
def test_an_id_that_is_no_text_is_named(dataset: Path, wrong: Any) -> None:
    data = Dataset.open(dataset)
    with pytest.raises(
        SegueError, match=r"track id: expected text such as .*, found (5 \(int\)|None \(NoneType\)|1\.5 \(float\))\. `vocabulary\.ids`"
    ):
        data.query(wrong)


def test_an_unknown_id_and_a_title_that_is_no_text_are_named(dataset: Path) -> None:
    data = Dataset.open(dataset)
    with pytest.raises(SegueError, match=r"track id: expected one of 3 known tracks such as .*, found 'nobody'\. `vocabulary\.track_ids`"):
        data.query(data.vocabulary.track_ids[0], "nobody")
    with pytest.raises(SegueError, match="found 'nobody'"):
        data.query(exclude=["nobody"])
    with pytest.raises(SegueError, match=r"title: expected text, found 7 \(int\)"):
        data.query(title=7)  # type: ignore[arg-type]


def test_a_dataset_and_its_parts_are_one_short_line_each(dataset: Path) -> None:
    data = Dataset.open(dataset)
    assert repr(data) == f"Dataset(2 playlists, 3 tracks, 4 interactions, {data.fingerprint[:12]})"
    assert repr(data.interactions) == "Interactions(2 playlists, 3 tracks, 4 entries)"
    assert repr(data.vocabulary) == f"Vocabulary(3 tracks, {data.vocabulary.hash[:12]})"
    assert repr(data.catalog) == "Catalog(3 tracks)"
    assert repr(data.query(title="x")) == "Query(0 seeds, title 'x', 0 excluded)"
