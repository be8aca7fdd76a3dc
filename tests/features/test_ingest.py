from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features import atomic
from features import ingest as module
from features.dataset import Dataset
from features.domain import NO_TRACK, SegueError
from features.ingest import ingest
from features.manifest import MANIFEST_FILE
from features.readers import pieces
from tests.features.conftest import playlist, slice_text


def written(path: Path, *playlists: dict[str, Any]) -> Path:
    path.write_text(slice_text(*playlists))
    return path


def tracks_file(path: Path, **columns: list[Any]) -> Path:
    pl.DataFrame(columns).write_parquet(path)
    return path


def ids_of(dataset: Dataset, row: int) -> list[str]:
    return [track.removeprefix("spotify:track:") for track in dataset.vocabulary.ids(dataset.interactions.tracks_of(row))]


def test_tracks_are_ordered_by_how_many_playlists_hold_them_then_by_id(slice_file: Path, tmp_path: Path) -> None:
    summary = ingest([slice_file], tmp_path / "d")
    dataset = Dataset.open(tmp_path / "d")
    assert dataset.vocabulary.track_ids.to_list() == ["spotify:track:a1", "spotify:track:a2", "spotify:track:b1"]
    assert [ids_of(dataset, 0), ids_of(dataset, 1)] == [["a1", "a2"], ["b1", "a1"]]
    assert (summary.playlists, summary.tracks, summary.interactions, summary.repeats, summary.cold_tracks) == (2, 3, 4, 1, 0)


def test_of_a_repeat_the_first_position_stays_and_plays_are_added(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("playlist_id,track_id,position,plays\np,x,4,1\np,y,3,2\np,x,1,5\np,x,9,\n")
    ingest([path], tmp_path / "d")
    dataset = Dataset.open(tmp_path / "d")
    part = pl.read_parquet(tmp_path / "d" / "interactions" / "part-00000.parquet")
    assert (ids_of(dataset, 0), part["position"].to_list(), part["plays"].to_list()) == (["x", "y"], [1, 3], [7.0, 2.0])


def test_both_forms_of_an_id_are_one_track(slice_file: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("playlist_id,track_id\np,a1\np,c\n")
    ingest([slice_file, table], tmp_path / "d", tracks_file(tmp_path / "f.parquet", track_id=["a2"], energy=[0.5]))
    dataset = Dataset.open(tmp_path / "d")
    assert dataset.vocabulary.track_ids.to_list() == ["spotify:track:a1", "c", "spotify:track:a2", "spotify:track:b1"]
    assert dataset.catalog.table["energy"].to_list() == [None, None, 0.5, None]


def test_the_catalog_takes_the_first_that_is_said_then_the_tracks_file(tmp_path: Path) -> None:
    silent = {"track_uri": "a", "track_name": None, "artist_name": ""}
    said = {"track_uri": "a", "track_name": "first", "album_name": "album"}
    source = written(
        tmp_path / "s.json",
        {"pid": 1, "tracks": [silent]},
        {"pid": 2, "tracks": [said]},
        playlist(3, tracks=[{**said, "track_name": "no"}]),
    )
    tracks = tracks_file(tmp_path / "f.parquet", track_id=["a"], title=["late"], artist=["artist"], tempo=[float("nan")], energy=[0.25])
    ingest([source], tmp_path / "d", tracks)
    row = Dataset.open(tmp_path / "d").catalog.table.row(0, named=True)
    assert {name: row[name] for name in ("title", "artist", "album", "tempo", "energy")} == {
        "title": "first",
        "artist": "artist",
        "album": "album",
        "tempo": None,
        "energy": 0.25,
    }


def test_tracks_that_nobody_holds_come_last(slice_file: Path, tmp_path: Path) -> None:
    tracks = tracks_file(tmp_path / "f.parquet", track_uri=["spotify:track:z", "spotify:track:0", "spotify:track:a1"])
    summary = ingest([slice_file], tmp_path / "d", tracks)
    assert Dataset.open(tmp_path / "d").vocabulary.track_ids.str.tail(1).to_list() == ["1", "2", "1", "0", "z"]
    assert (summary.cold_tracks, summary.described_tracks, summary.tracks) == (2, 1, 5)


def test_tracks_alone_are_a_dataset(tmp_path: Path) -> None:
    ingest([], tmp_path / "d", tracks_file(tmp_path / "f.parquet", track_id=[2, 1], energy=[0.5, None]))
    dataset = Dataset.open(tmp_path / "d")
    assert (dataset.vocabulary.ids([0, 1]), dataset.interactions.num_playlists) == (["1", "2"], 0)


def test_challenge_playlists_are_marked_and_may_be_empty(slice_file: Path, tmp_path: Path) -> None:
    challenge = written(tmp_path / "c.json", playlist(10), playlist(11, "a2", "q"))
    summary = ingest([slice_file], tmp_path / "d", challenges=[challenge])
    dataset = Dataset.open(tmp_path / "d")
    assert dataset.playlists["is_challenge"].to_list() == [False, False, True, True]
    assert [ids_of(dataset, row) for row in (2, 3)] == [[], ["a2", "q"]]
    assert (summary.playlists, summary.challenge_playlists) == (4, 2)
    assert dataset.interactions.titles == ("list 0", "list 1", "list 10", "list 11")


def test_the_size_of_the_parts_changes_nothing(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ([world / "mpd.zip"], tmp_path / "one", world / "audio_features.parquet", [world / "challenge.json"])
    ingest(*arguments)
    monkeypatch.setattr(module, "_ROWS_PER_PART", 1)
    monkeypatch.setattr(module, "_MERGE_AT_LEAST", 1)
    ingest(arguments[0], tmp_path / "many", *arguments[2:])
    one, many = Dataset.open(tmp_path / "one"), Dataset.open(tmp_path / "many")
    assert len(list((tmp_path / "many" / "interactions").iterdir())) == 3
    assert one.vocabulary.hash == many.vocabulary.hash
    assert one.catalog.table.equals(many.catalog.table)
    assert (one.interactions.tracks == many.interactions.tracks).all()
    assert (one.interactions.offsets == many.interactions.offsets).all()


def test_the_number_of_processes_changes_no_byte(world: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    for processes in (1, 3):
        fingerprint = ingest(
            [world / "mpd.zip"],
            tmp_path / str(processes),
            world / "audio_features.parquet",
            [world / "challenge.json"],
            lambda phase, done: told.append((phase, done)),
            processes,
        ).fingerprint
        assert fingerprint == Dataset.open(tmp_path / "1").fingerprint
    assert told[: len(told) // 2] == told[len(told) // 2 :]


def test_many_bytes_are_read_by_a_process_per_core(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unread, size = pieces(world / "mpd.zip"), (world / "mpd.zip").stat().st_size
    assert module._processes_for(unread) == 0
    monkeypatch.setattr(module, "cores", lambda: 2)
    monkeypatch.setattr(module, "_PIECES_PER_PROCESS", 1)
    monkeypatch.setattr(module, "_BYTES_PER_PROCESS", size // 2)
    assert module._processes_for(unread) == 2
    monkeypatch.setattr(module, "_BYTES_PER_PROCESS", size)
    assert module._processes_for(unread) == 1


def test_ctrl_c_leaves_nothing(world: Path, tmp_path: Path) -> None:
    def interrupted(phase: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest([world / "mpd.zip"], tmp_path / "d", progress=interrupted, processes=2)
    assert list(tmp_path.iterdir()) == []


def test_the_whole_world_arrives(world: Path, tmp_path: Path) -> None:
    ingest([world / "mpd.zip"], tmp_path / "d", world / "audio_features.parquet", [world / "challenge.json"])
    dataset = Dataset.open(tmp_path / "d")
    asked = json.loads((world / "challenge.json").read_text())["playlists"]
    for row, question in zip(range(1_200, dataset.interactions.num_playlists), asked, strict=True):
        assert dataset.playlists["playlist_id"][row] == str(question["pid"])
        assert ids_of(dataset, row) == [entry["track_uri"].removeprefix("spotify:track:") for entry in question["tracks"]]
    truth = pl.read_parquet(world / "truth.parquet")["track_uri"].to_list()
    assert (dataset.vocabulary.index_of(truth) != NO_TRACK).mean() > 0.99


def test_the_same_input_has_the_same_fingerprint(slice_file: Path, tmp_path: Path) -> None:
    first, second = ingest([slice_file], tmp_path / "a"), ingest([slice_file], tmp_path / "b")
    assert first.fingerprint == second.fingerprint == Dataset.open(tmp_path / "a").fingerprint
    written(slice_file, playlist(0, "a1", "a2"), playlist(1, "a1", "b1"))
    assert ingest([slice_file], tmp_path / "c").fingerprint != first.fingerprint


def test_a_dataset_is_replaced_and_its_folder_made(slice_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "down" / "d"
    ingest([slice_file], out)
    ingest([written(tmp_path / "s.json", playlist(5, "c"))], out)
    assert Dataset.open(out).vocabulary.ids([0]) == ["spotify:track:c"]
    assert [path.name for path in out.parent.iterdir()] == ["d"]


def test_progress_is_told_to_its_end(slice_file: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    ingest([slice_file], tmp_path / "d", progress=lambda phase, done: told.append((phase, done)))
    assert told == [("reading", 1.0), ("indexing", 1.0)]


def same_file(folder: Path) -> tuple[list[Path], Path | None, list[Path]]:
    return [folder / "mpd.slice.0-1.json", folder / "." / "mpd.slice.0-1.json"], None, []


def same_content(folder: Path) -> tuple[list[Path], Path | None, list[Path]]:
    return [folder / "mpd.slice.0-1.json", written(folder / "copy.json", playlist(1, "a"))], None, []


def challenge_of_known(folder: Path) -> tuple[list[Path], Path | None, list[Path]]:
    return [folder / "mpd.slice.0-1.json"], None, [written(folder / "challenge.json", playlist(7), playlist(1, "a"))]


def twice_in_one(folder: Path) -> tuple[list[Path], Path | None, list[Path]]:
    return [written(folder / "twice.json", playlist(4, "a"), playlist(4, "a"))], None, []


def foreign_tracks(folder: Path) -> tuple[list[Path], Path | None, list[Path]]:
    return [folder / "mpd.slice.0-1.json"], tracks_file(folder / "f.parquet", track_id=["other"]), []


def nothing_held(folder: Path) -> tuple[list[Path], Path | None, list[Path]]:
    return [written(folder / "empty.json", playlist(4), playlist(5))], None, []


def truncated(folder: Path) -> tuple[list[Path], Path | None, list[Path]]:
    (folder / "cut.json").write_text(slice_text(playlist(4, "a"))[:-9])
    return [folder / "mpd.slice.0-1.json", folder / "cut.json"], None, []


def missing_challenge(folder: Path) -> tuple[list[Path], Path | None, list[Path]]:
    return [folder / "mpd.slice.0-1.json"], None, [folder / "none.json"]


def missing_tracks(folder: Path) -> tuple[list[Path], Path | None, list[Path]]:
    return [folder / "mpd.slice.0-1.json"], folder / "none.parquet", []


@pytest.mark.parametrize(("existing", "processes"), [(False, 1), (True, 1), (True, 2)])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (same_file, "expected every source and challenge once, found this one twice"),
        (same_content, r"mpd.slice.0-1.json and in .*copy.json: expected playlist ids that occur once, found 1 2 times"),
        (challenge_of_known, r"mpd.slice.0-1.json and in .*challenge.json: expected playlist ids that occur once, found 1 2 times"),
        (twice_in_one, r"twice.json: expected playlist ids that occur once, found 4 2 times"),
        (foreign_tracks, "f.parquet: expected ids such as spotify:track:[ab][12], found ids such as other"),
        (nothing_held, "empty.json: expected playlists with tracks, found 2 playlists and no track"),
        (truncated, "cut.json: expected .*playlists.*, found text that is no JSON"),
        (missing_challenge, "none.json: expected a file or folder, found nothing"),
        (missing_tracks, "none.parquet: expected a parquet or CSV table of tracks, found nothing"),
    ],
)
def test_what_fails_leaves_everything_as_it_was(
    slice_file: Path,
    tmp_path: Path,
    given: Callable[[Path], tuple[list[Path], Path | None, list[Path]]],
    message: str,
    existing: bool,
    processes: int,
) -> None:
    before = ingest([slice_file], tmp_path / "d").fingerprint if existing else None
    sources, tracks, challenges = given(tmp_path)
    names = sorted(os.listdir(tmp_path))
    with pytest.raises(SegueError, match=message) as raised:
        ingest(sources, tmp_path / "d", tracks, challenges, processes=processes)
    assert "\n" not in str(raised.value)
    assert sorted(os.listdir(tmp_path)) == names
    assert before is None or Dataset.open(tmp_path / "d").fingerprint == before


def test_a_full_disk_is_an_os_error_and_leaves_nothing(world: Path, tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow."""
    program = """if True:
        import resource, signal, sys
        from pathlib import Path
        from features.ingest import ingest
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
        try:
            ingest([Path(sys.argv[1])], Path(sys.argv[2]))
        except OSError as error:
            print(error.strerror, error.filename)
    """
    arguments = [sys.executable, "-c", program, str(world / "mpd.zip"), str(tmp_path / "deep" / "d")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=Path(module.__file__).parents[1])
    assert done.stdout == f"File too large {tmp_path / 'deep' / 'd'}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rename_puts_the_old_dataset_back(slice_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ingest([slice_file], tmp_path / "d").fingerprint
    rename = Path.rename

    def refuses_the_new(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuses_the_new)
    monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    with pytest.raises(PermissionError, match="Permission denied"):
        ingest([slice_file], tmp_path / "d")
    assert Dataset.open(tmp_path / "d").fingerprint == before
    assert sorted(os.listdir(tmp_path)) == ["d", slice_file.name]


@pytest.mark.parametrize("foreign", ["file", "folder"])
def test_what_is_no_dataset_is_not_overwritten(slice_file: Path, tmp_path: Path, foreign: str) -> None:
    out = tmp_path / "mine"
    if foreign == "folder":
        out.mkdir()
    precious = out if foreign == "file" else out / "diary.txt"
    precious.write_text("precious")
    with pytest.raises(SegueError, match="mine: expected a dataset to replace, or nothing, found something else"):
        ingest([slice_file], out)
    assert precious.read_text() == "precious"
    assert not (out / MANIFEST_FILE).exists()


def test_an_empty_folder_is_filled(slice_file: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert ingest([slice_file], tmp_path / "d").fingerprint == Dataset.open(tmp_path / "d").fingerprint


@pytest.mark.skipif("SEGUE_DATA" not in os.environ, reason="SEGUE_DATA is not set")
def test_the_real_sample_arrives(tmp_path: Path) -> None:
    """165,712 tracks are in a playlist; 7,026 more are only in the tracks file."""
    data = Path(os.environ["SEGUE_DATA"]) / "mpd-sample"
    challenges = [data / "challenge_dev.json", data / "challenge_test.json"]
    summary = ingest([data / "mpd_sample.zip"], tmp_path / "d", data / "audio_features.parquet", challenges)
    dataset = Dataset.open(tmp_path / "d")
    truth = pl.read_parquet(data / "truth_dev.parquet")["track_uri"].to_list()
    assert (summary.playlists, summary.challenge_playlists) == (7_019, 1_448)
    assert (summary.tracks - summary.cold_tracks, summary.cold_tracks, summary.described_tracks) == (165_712, 7_026, 57_606)
    assert int((dataset.interactions.track_counts > 0).sum()) == 165_712
    assert (dataset.vocabulary.index_of(truth) != NO_TRACK).all()
