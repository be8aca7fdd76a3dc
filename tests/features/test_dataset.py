from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
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
from tests.damage import swapped, with_a_bit_flipped


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
        (lambda manifest: manifest.update(num_tracks=4), r"vocabulary\.parquet: expected 4 rows, found 3"),
        (lambda manifest: manifest.update(num_interactions=9), "interactions: expected 9 rows, found 4"),
        (lambda manifest: manifest.update(num_playlists=1), r"playlists\.parquet: expected 1 rows, found 2"),
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


@pytest.mark.parametrize("name", ["catalog.parquet", "interactions/part-00000.parquet", "playlists.parquet", "vocabulary.parquet"])
def test_a_flipped_bit_is_found_where_sums_are_compared(dataset: Path, name: str) -> None:
    with_a_bit_flipped(dataset / name, Random(0))
    with pytest.raises(SegueError, match=rf"{name}: expected sha256 \w{{64}}, found \w{{64}}: the file was changed"):
        Dataset.open(dataset)


def test_a_file_that_is_not_listed_or_not_plain_is_refused(dataset: Path) -> None:
    (dataset / "notes.txt").write_text("mine")
    with pytest.raises(SegueError, match=r"expected the files of dataset\.json, plain files all, found 'notes\.txt' besides"):
        Dataset.open(dataset)
    (dataset / "notes.txt").unlink()
    (dataset / "catalog.parquet").rename(dataset.parent / "elsewhere")
    (dataset / "catalog.parquet").symlink_to(dataset.parent / "elsewhere")
    with pytest.raises(SegueError, match=r"found 'catalog\.parquet' besides"):
        Dataset.open(dataset)


# --- what another writer might have written, with sums that are right ---


def resealed(path: Path, **changes: Any) -> None:
    """The manifest that fits the files as they are now, but for the `changes`."""

    def fit(manifest: dict[str, Any]) -> None:
        files = file_facts(path)
        ids = pl.read_parquet(path / "vocabulary.parquet")["track_id"]
        manifest["files"] = {name: facts.model_dump() for name, facts in files.items()}
        manifest["fingerprint"] = fingerprint_of(files)
        manifest["vocabulary_hash"] = hashlib.sha256("".join(f"{one}\n" for one in ids).encode()).hexdigest()
        manifest.update(changes)

    rewritten(path, fit)


def put(column: str, row: int, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """The table with another value in one place."""
    chosen = pl.int_range(pl.len()) == row
    return lambda table: table.with_columns(
        pl.when(chosen).then(pl.lit(value, table.schema[column])).otherwise(pl.col(column)).alias(column)
    )


PART = "interactions/part-00000.parquet"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (PART, lambda table: table.reverse(), "playlist_index: expected numbers that never fall, found 0 at place 2"),
        (PART, lambda table: table[[1, 0, 2, 3]], "position: expected numbers that never fall within a playlist, found 0 after 1 in row 1"),
        (PART, put("playlist_index", 3, 2), "playlist_index: expected numbers from 0 to 1, found 2 at place 3"),
        (PART, put("playlist_index", 0, -1), "playlist_index: expected numbers from 0 to 1, found -1 at place 0"),
        (PART, put("track_index", 1, 3), "track_index: expected numbers from 0 to 2, found 3 at place 1"),
        (PART, put("track_index", 1, -1), "track_index: expected numbers from 0 to 2, found -1 at place 1"),
        (PART, put("track_index", 1, 0), "expected each track once in a playlist, found track 0 twice in playlist 0"),
        (PART, put("plays", 2, -1.0), "plays: expected numbers from 0 to 1e+15, found -1.0 at place 2"),
        (PART, put("plays", 2, float("nan")), "expected finite numbers or none as plays, found nan in row 2"),
        (PART, put("plays", 2, float("inf")), "expected finite numbers or none as plays, found inf in row 2"),
        *(
            (PART, put(column, 3, None), f"expected a value of {column} in every row, found 1 nulls")
            for column in ("playlist_index", "track_index", "position", "plays")
        ),
        (PART, lambda table: table.drop("plays"), "expected the columns playlist_index Int32, .*plays Float32, found"),
        (
            PART,
            lambda table: table.with_columns(track_index=pl.lit("x")),
            "expected the columns .*, found .*track_index String",
        ),
        (
            PART,
            lambda table: table.with_columns(track_index=2 - pl.col("track_index")),
            "that never rise, found 2 at place 2",
        ),
        (PART, lambda table: table.head(3), "interactions: expected 4 rows, found 3"),
        (PART, lambda table: table.clear(), "interactions: expected 4 rows, found 0"),
        ("vocabulary.parquet", lambda table: table.reverse(), "expected tracks that equally many playlists hold by id, found"),
        ("vocabulary.parquet", put("track_id", 1, "spotify:track:a1"), "vocabulary.parquet: .*expected 3 different track ids, found 2"),
        ("vocabulary.parquet", put("track_id", 1, None), "expected a value of track_id in every row, found 1 nulls"),
        ("vocabulary.parquet", lambda table: table.head(2), r"vocabulary\.parquet: expected 3 rows, found 2"),
        ("catalog.parquet", lambda table: table.head(2), r"catalog\.parquet: expected 3 rows, found 2"),
        ("catalog.parquet", lambda table: table.drop("artist"), "expected the columns title String, artist String"),
        ("catalog.parquet", lambda table: table.with_columns(energy=pl.lit("loud")), "expected the columns title String.*energy String"),
        ("playlists.parquet", lambda table: table.head(1), r"playlists\.parquet: expected 2 rows, found 1"),
        ("playlists.parquet", put("playlist_id", 1, "0"), "expected 2 different playlist ids, found 1"),
        ("playlists.parquet", put("is_challenge", 1, True), "expected 0 challenge playlists, found 1"),
        *(
            ("playlists.parquet", put(column, 1, None), f"expected a value of {column} in every row, found 1 nulls")
            for column in ("playlist_id", "title", "is_challenge")
        ),
    ],
)
def test_rows_that_nobody_ingested_are_refused(
    dataset: Path, name: str, change: Callable[[pl.DataFrame], pl.DataFrame], message: str
) -> None:
    resealed(dataset)
    assert Dataset.open(dataset).interactions.num_tracks == 3
    change(pl.read_parquet(dataset / name)).write_parquet(dataset / name)
    resealed(dataset)
    with pytest.raises(SegueError, match=message.replace("+", r"\+")) as caught:
        Dataset.open(dataset)
    assert "\n" not in str(caught.value)
    assert str(dataset) in str(caught.value)


ELSEWHERE = {"size": 1, "rows": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(fingerprint="0" * 64), f"fingerprint: expected .*, that of its files, found {'0' * 64}"),
        (lambda manifest: manifest.update(vocabulary_hash="0" * 64), f"expected the hash of its ids, .*, found {'0' * 64} in the manifest"),
        *(
            (lambda manifest, name=name: manifest["files"].update({name: ELSEWHERE}), f"files: expected those of a dataset, found '{name}'")
            for name in (
                "../other/part-00000.parquet",
                "/etc/passwd",
                "interactions/../x.parquet",
                "interactions/part-7.parquet",
            )
        ),
        (lambda manifest: manifest["files"].pop("catalog.parquet"), r"files: expected catalog\.parquet among them, found none"),
        (lambda manifest: manifest["files"][PART].update(rows=5), "interactions: expected 4 rows, found 5"),
        (lambda manifest: manifest["files"][PART].update(rows=-1), "rows: expected greater than or equal to 0, found -1"),
        (lambda manifest: manifest["files"]["catalog.parquet"].update(rows=2), r"catalog\.parquet: expected 3 rows, found 2"),
        (lambda manifest: manifest["files"][PART].update(sha256="x"), "sha256: .*found 'x'"),
    ],
)
def test_a_manifest_that_contradicts_itself_or_its_files_is_refused(
    dataset: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    rewritten(dataset, change)
    with pytest.raises(SegueError, match=message) as caught:
        Dataset.open(dataset)
    assert "\n" not in str(caught.value)


def test_a_playlist_in_two_parts_is_refused(in_parts: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(in_parts, tmp_path / "d"))
    first, second = (copy / "interactions" / f"part-0000{i}.parquet" for i in range(2))
    rows, more = pl.read_parquet(first), pl.read_parquet(second)
    at = more["playlist_index"][0]
    pl.concat([rows, more.filter(pl.col("playlist_index") == at)[:1]]).write_parquet(first)
    more[1:].write_parquet(second)
    resealed(copy)
    with pytest.raises(SegueError, match=rf"part-00001\.parquet: playlist_index: expected numbers from {at + 1:,} to 1,319, found {at}"):
        Dataset.open(copy)
    swapped(first, second)
    resealed(copy)
    with pytest.raises(SegueError, match=r"part-00001\.parquet: playlist_index: expected numbers from"):
        Dataset.open(copy)


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
        Dataset.open(copy, verify="size")


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
