from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import readers
from features.domain import SegueError
from features.readers import Slice, pieces, read_tracks
from features.schema import PLAYLIST_ID, PLAYLIST_INDEX, PLAYS, POSITION, TITLE, TRACK_ID
from tests.features.conftest import entry, playlist, slice_text


def read(path: Path) -> Slice:
    (piece,) = pieces(path)
    return piece.read()


def held(slice_: Slice) -> list[tuple[str, str]]:
    ids = slice_.playlists[PLAYLIST_ID].to_list()
    return [(ids[row], track) for row, track in slice_.entries.select(PLAYLIST_INDEX, TRACK_ID).iter_rows()]


# --- slices


def as_json(path: Path, text: str) -> Path:
    path.with_suffix(".json").write_text(text)
    return path.with_suffix(".json")


def as_gz(path: Path, text: str) -> Path:
    path.with_suffix(".json.gz").write_bytes(gzip.compress(text.encode()))
    return path.with_suffix(".json.gz")


def as_zip(path: Path, text: str) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.writestr("README.md", "no slice")
        archive.writestr("data/mpd.slice.0-999.json", text)
        archive.writestr("__MACOSX/data/._mpd.slice.0-999.json", "junk")
    return path.with_suffix(".zip")


def as_folder(path: Path, text: str) -> Path:
    (path / "data").mkdir(parents=True)
    (path / "data" / "mpd.slice.0-999.json").write_text(text)
    return path


@pytest.mark.parametrize("store", [as_json, as_gz, as_zip, as_folder])
def test_a_slice_is_the_same_in_every_layout(tmp_path: Path, store: Callable[[Path, str], Path]) -> None:
    slice_ = read(store(tmp_path / "mpd", slice_text(playlist(7, "a1", "a2"), playlist(9, "b1"))))
    assert held(slice_) == [("7", "spotify:track:a1"), ("7", "spotify:track:a2"), ("9", "spotify:track:b1")]
    assert slice_.playlists.row(0) == ("7", "list 7", 3)
    assert dict(slice_.playlists.schema) == readers.SLICE_PLAYLISTS
    assert dict(slice_.entries.schema) == readers.SLICE_ENTRIES


def test_slices_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for start in (1000, 0, 20000):
        (tmp_path / f"mpd.slice.{start}-{start + 999}.json").write_text(slice_text(playlist(start, "a")))
    assert [piece.read().playlists[PLAYLIST_ID][0] for piece in pieces(tmp_path)] == ["0", "1000", "20000"]


def test_a_playlist_may_say_little_and_unknown_things(tmp_path: Path) -> None:
    bare = {
        "pid": "x",
        "tracks": [{"track_uri": "t", "mood": {"a": [1]}}, entry("a1", pos=None, album_name="", duration_ms=1.5)],
        "edits": 3,
    }
    slice_ = read(as_json(tmp_path / "s", json.dumps({"playlists": [bare, {"pid": 2, "name": None, "tracks": []}], "version": "v1"})))
    assert slice_.playlists.rows() == [("x", "", 0), ("2", "", 0)]
    assert slice_.entries.rows() == [
        (0, "t", 0, 1.0, None, None, None, None),
        (0, "spotify:track:a1", 1, 1.0, "title a1", "artist a", None, 1.5),
    ]


def test_entries_are_put_in_the_order_of_their_positions(tmp_path: Path) -> None:
    tracks = [entry("a", pos=5), entry("b", pos=2), entry("c", pos=2)]
    slice_ = read(as_json(tmp_path / "s", slice_text(playlist(1, tracks=tracks))))
    assert [track[-1] for track in slice_.entries[TRACK_ID]] == ["b", "c", "a"]
    assert slice_.entries[POSITION].to_list() == [2, 2, 5]


names = st.text(max_size=6).filter(lambda text: "\x00" not in text and all(ord(letter) < 0xD800 or ord(letter) > 0xDFFF for letter in text))


@settings(max_examples=30)
@given(st.lists(st.tuples(names, st.lists(st.integers(0, 9), max_size=5)), max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, lists: list[tuple[str, list[int]]]) -> None:
    text = slice_text(*(playlist(i, *map(str, tracks), name=name) for i, (name, tracks) in enumerate(lists)))
    slice_ = read(as_json(tmp_path_factory.mktemp("slice") / "s", text))
    assert slice_.playlists[TITLE].to_list() == [name for name, _ in lists]
    assert held(slice_) == [(str(i), f"spotify:track:{track}") for i, (_, tracks) in enumerate(lists) for track in tracks]


good = slice_text(playlist(1, "a1"))
no_slices: list[tuple[str, bytes, str]] = [
    ("s.json", b"", "found an empty file"),
    ("s.json", b" \n", "found an empty file"),
    ("s.json", good[:-20].encode(), "found text that is no JSON or breaks off"),
    ("s.json", b"\xff\xfe{}", "found text that is no JSON"),
    ("s.json", b"[1, 2]", "found a JSON list"),
    ("s.json", b"[]", "found a JSON list"),
    ("s.json", b"3", "found a JSON int"),
    ("s.json", b'{"info": 1, "tracks": []}', "found an object with the keys info, tracks"),
    ("s.json", b'{"playlists": 3}', "found playlists of another shape"),
    ("s.json", b'{"playlists": null}', "found playlists of another shape"),
    ("s.json", b'{"playlists": [3]}', "found playlists of another shape"),
    ("s.json", b'{"playlists": [{"name": "x", "tracks": []}]}', "expected a pid in every playlist, found 1 without, the first at place 0"),
    ("s.json", b'{"playlists": [{"pid": 1}]}', "expected a tracks in every playlist, found 1 without"),
    ("s.json", b'{"playlists": [{"pid": 1, "tracks": [{"pos": 0}]}]}', "expected a track_uri in every track, found 1 without"),
    ("s.json", b'{"playlists": [{"pid": 1, "tracks": [null]}]}', "expected a track_uri in every track, found 1 without"),
    ("s.json", b'{"playlists": [{"pid": 1, "tracks": [{"track_uri": "a", "pos": 9999999999}]}]}', "expected .* found .*9999999999"),
    ("s.json.gz", gzip.compress(good.encode())[:-12], "expected a slice that can be read to its end, found .* a part of it"),
    ("s.json.gz", good.encode(), "expected a slice that can be read to its end, found something else"),
    ("s.zip", b"PK no zip", "expected a zip archive, found something else"),
    ("s.zip", b"", "expected a zip archive, found something else"),
    ("s.txt", b"a", r"expected a folder, .zip, .* found the ending '.txt'"),
    ("t.parquet", b"no parquet", "expected a parquet table, found"),
    ("t.csv", b"", "expected a CSV table, found"),
    (
        "t.csv",
        b"playlist_id,track\n1,2\n",
        "expected the columns playlist_id, track_id, found playlist_id, track: track_id or track_uri missing",
    ),
    ("t.csv", b"playlist_id,track_id\n", "expected rows with playlist_id and track_id, found none"),
    ("t.csv", b"playlist_id,track_id\n1,\n", "expected a track_id in every row, found 1 without, the first in line 2"),
    ("t.csv", b"playlist_id,track_id,position\n1,2,first\n", "a whole number .* in the column position, found 'first' in line 2"),
    ("t.csv", b"playlist_id,track_id\n1,2,3\n", "found line 2 with 3 cells where the header has 2, parted by commas"),
    ("t.csv", b'playlist_id,track_id,name\na,"x\ny",z\na,b,(12" mix)\nb,x,p\n', r'found line 4 with a quote \("\)'),
    (
        "t.csv",
        b'playlist_id,track_id,plays\na,"x\ny",1\na,b,-5\n',
        "a number from 0 to 1000000000 in the column plays, found '-5' in line 4",
    ),
    ("t.csv", b"playlist_id,track_id,plays\na,x,inf\n", "a number from 0 to .* in the column plays, found 'inf' in line 2"),
    ("t.csv", b"playlist_id,track_id,plays\na,x,1e30\n", "a number from 0 to .* in the column plays, found '1e30' in line 2"),
    ("t.csv", b"playlist_id,track_id,timestamp\na,x,999\na,y,unknown\n", "in the column timestamp, found 'unknown' in line 3"),
    ("t.csv", b"playlist_id,track_id\na,x\n\nb,  \n", "expected a playlist_id in every row, found 1 without, the first in line 3"),
    ("t.csv", b"playlist_id,track_id\na,\xe9\n", "found another encoding than UTF-8 or UTF-16"),
    ("t.csv", "playlist_id,track_id\na,b\n".encode("utf-16")[:-1], "found another encoding than UTF-8 or UTF-16"),
    ("t.csv.gz", gzip.compress(b"playlist_id,track_id\na,b\n")[:-12], "found something else or a part of it"),
    ("t.csv.gz", gzip.compress(b"playlist_id,track_id\na,b\n")[:14] + b"\xff" * 30, "expected a CSV table, found"),
    ("t.csv", b"playlist_id," + b"x" * 200_000 + b",track_id\na,b,c\n", "found something else or a part of it: field larger"),
    ("t.csv", b'playlist_id,track_id\na,b\nc,"d\ne,f\n', r'found line 3 with a quote \("\)'),
    ("t.csv.gz", b"playlist_id", "found something else or a part of it"),
    ("t.csv", b"Playlist ID,trackid\na,x\n", "track_id or track_uri missing. Is trackid meant"),
]


@pytest.mark.parametrize(("name", "content", "message"), no_slices)
def test_a_bad_file_is_one_line_with_both_sides(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SegueError, match=message) as raised:
        [piece.read() for piece in pieces(tmp_path / name)]
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "expected" in str(raised.value)


def test_a_truncated_slice_in_a_zip_is_named(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match=r"mpd\.zip:data/mpd\.slice\.0-999\.json: expected .*, found text that is no JSON"):
        read(as_zip(tmp_path / "mpd", good[:50]))


def test_a_damaged_zip_is_named(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "mpd", good)
    path.write_bytes(path.read_bytes().replace(b"title", b"tilte", 1))
    with pytest.raises(SegueError, match=r"expected a slice that can be read to its end, found .*CRC"):
        read(path)


@pytest.mark.parametrize("name", ["missing.zip", "missing.json", "missing", "missing.csv"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SegueError, match=f"{name}: expected a file or folder, found nothing of that name"):
        pieces(tmp_path / name)


def test_a_folder_and_a_zip_without_slices_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SegueError, match=r"expected slices such as .*, found 1 files and no .json"):
        pieces(tmp_path)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("readme", "x")
    with pytest.raises(SegueError, match=r"z.zip: expected slices such as .*, found 1 files"):
        pieces(tmp_path / "z.zip")


# --- tables


def as_table(path: Path, ending: str, **columns: list[Any]) -> Path:
    table = pl.DataFrame(columns)
    file = path / f"t.{ending}"
    table.write_parquet(file) if ending == "parquet" else table.write_csv(file)
    return file


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_table_of_integers_keeps_its_order(tmp_path: Path, ending: str) -> None:
    slice_ = read(as_table(tmp_path, ending, playlist_id=[5, 3, 5], track_id=[9, 8, 7]))
    assert held(slice_) == [("5", "9"), ("5", "7"), ("3", "8")]
    assert slice_.entries[POSITION].to_list() == [0, 1, 0]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_table_goes_by_position_else_by_timestamp(tmp_path: Path, ending: str) -> None:
    base: dict[str, list[Any]] = {"playlist_id": ["p"] * 3, "track_uri": ["x", "y", "z"], "timestamp": [100, 20, 3]}
    assert read(as_table(tmp_path, ending, **base)).entries[TRACK_ID].to_list() == ["z", "y", "x"]
    slice_ = read(as_table(tmp_path, ending, **base, position=[4, 6, 5], plays=[1.0, None, 2.5]))
    assert slice_.entries.select(TRACK_ID, POSITION, PLAYS).rows() == [("x", 4, 1.0), ("z", 5, 2.5), ("y", 6, 1.0)]


def test_a_csv_keeps_leading_zeros(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("playlist_id,track_id,artist\n007,01,02\n")
    slice_ = read(tmp_path / "t.csv")
    assert held(slice_) == [("007", "01")]
    assert slice_.entries["artist"].to_list() == ["02"]


@pytest.mark.parametrize("scattered", [False, True])
def test_a_long_table_is_cut_between_playlists_or_not_at_all(tmp_path: Path, scattered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_ROWS_AT_ONCE", 4)
    playlists = [1, 1, 1, 2, 2, 2, 3, 4, 4, 4, 4, 4, 4, 5]
    path = as_table(tmp_path, "parquet", playlist_id=[*playlists, 1] if scattered else playlists, track_id=list(range(14 + scattered)))
    read_ = [piece.read() for piece in pieces(path)]
    assert len(read_) == (1 if scattered else 3)
    ids = [playlist for slice_ in read_ for playlist in slice_.playlists[PLAYLIST_ID]]
    assert ids == ["1", "2", "3", "4", "5"]
    assert sum(slice_.entries.height for slice_ in read_) == 14 + scattered


@pytest.mark.parametrize(
    "times",
    [
        ["2", "9", "10"],
        ["05 Apr 2010, 11:59", "12 Apr 2010, 10:00", "2 Jan 2011 10:00"],
        ["2020-01-01T23:30:00-01:00", "2020-01-02T02:00:00.5+01", "2020-01-02 01:01"],
        ["1577930645", "1577930645001", "2020-01-02T02:04:06Z"],
    ],
)
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_instants_are_compared_as_instants(tmp_path: Path, ending: str, times: list[str]) -> None:
    path = as_table(tmp_path, ending, playlist_id=["p"] * 3, track_id=["c", "b", "a"], timestamp=times[::-1])
    assert read(path).entries[TRACK_ID].to_list() == ["a", "b", "c"]


@pytest.mark.parametrize("positions", [["2", "9", "10"], ["2.0", "9", " 10 "], [2.0, 9.0, 10.0]])
@pytest.mark.parametrize("column", ["position", "pos", "Position"])
def test_whole_numbers_may_be_text_or_floats(tmp_path: Path, positions: list[Any], column: str) -> None:
    path = as_table(tmp_path, "parquet", playlist_id=["p"] * 3, track_id=["c", "b", "a"], **{column: positions[::-1]})
    assert read(path).entries.select(TRACK_ID, POSITION).rows() == [("a", 2), ("b", 9), ("c", 10)]


def test_text_has_one_form(tmp_path: Path) -> None:
    path = as_table(tmp_path, "csv", playlist_id=["a", " a", "b"], track_id=["Caf\u00e9", "x ", "Cafe\u0301"])
    assert held(read(path)) == [("a", "Caf\u00e9"), ("a", "x"), ("b", "Caf\u00e9")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("semicolons.CSV", b"\xef\xbb\xbfplaylist_id;track_id;plays\r\na;x;1,5\r\nb;x;2\r\n"),
        ("tabs.tsv", b"playlist_id\ttrack_id\tplays\na\tx\t1,5\nb\tx\t2\n"),
        ("wide.csv", "playlist_id\ttrack_id\tplays\r\na\tx\t1,5\r\nb\tx\t2\r\n".encode("utf-16")),
        ("small.csv.gz", gzip.compress(b'"PLAYLIST_ID","Track ID","Plays"\n"a","x","1.5"\nb,x,2\n')),
    ],
)
def test_separator_and_encoding_are_found_out(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    slice_ = read(tmp_path / name)
    assert held(slice_) == [("a", "x"), ("b", "x")]
    assert slice_.entries[PLAYS].to_list() == [1.5, 2.0]


@pytest.mark.parametrize("column", ["name", "title", "playlist_name", "Playlist Title"])
def test_a_table_says_its_playlists_titles(tmp_path: Path, column: str) -> None:
    titles = {column: ["road trip", "road trip", "gym"]}
    slice_ = read(as_table(tmp_path, "csv", playlist_id=[1, 1, 2], track_id=["x", "y", "x"], num_followers=[3, 3, 5_000_000_000], **titles))
    assert slice_.playlists.rows() == [("1", "road trip", 3), ("2", "gym", 2**31 - 1)]
    assert slice_.entries[TITLE].null_count() == 3


def test_a_title_that_varies_within_playlists_is_the_tracks(tmp_path: Path) -> None:
    slice_ = read(as_table(tmp_path, "csv", playlist_id=[1, 1, 2], track_id=["x", "y", "x"], name=["X", "Y", "X"]))
    assert slice_.playlists[TITLE].to_list() == ["", ""]
    assert slice_.entries[TITLE].to_list() == ["X", "Y", "X"]


def test_a_slices_followers_are_clipped(tmp_path: Path) -> None:
    assert read(as_json(tmp_path / "s", slice_text(playlist(1, "a", num_followers=5_000_000_000)))).playlists.row(0)[2] == 2**31 - 1


WATSONBOX = "{}\n{},Song,spotify:artist:a,Anna,spotify:album:b,Disc,spotify:artist:a,Anna,2020-01-02\n"
EXPORTS = {
    "english": "Track URI,Track Name,Artist URI(s),Artist Name(s),Album URI,Album Name,Album Artist URI(s),Album Artist Name(s),Date",
    "german": "Titel-URI,Titel,Künstler-URI(s),Künstler,Album-URI,Album,Album-Künstler-URI(s),Album-Künstler,Erschienen",
}


@pytest.mark.parametrize("language", EXPORTS)
def test_exportify_is_recognised_in_any_language(tmp_path: Path, language: str) -> None:
    (tmp_path / "Road Trip.csv").write_text(WATSONBOX.format(EXPORTS[language], "spotify:track:x"), encoding="utf-8")
    slice_ = read(tmp_path / "Road Trip.csv")
    assert slice_.playlists.rows() == [("Road Trip", "Road Trip", 0)]
    assert slice_.entries.select(TRACK_ID, TITLE, "artist", "album").rows() == [("spotify:track:x", "Song", "Anna", "Disc")]


def test_other_tracks_without_playlists_are_no_export(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("track_uri,playlist,name\nspotify:track:x,1,Song\n")
    with pytest.raises(SegueError, match="playlist_id missing"):
        read(tmp_path / "t.csv")


def test_a_folder_of_exports_is_a_playlist_a_file(tmp_path: Path) -> None:
    for name in ("gym", "calm"):
        (tmp_path / f"{name}.CSV").write_text("Track URI,Track Name,Album Name,Artist Name(s)\nspotify:track:x,Song,Disc,Anna;Bob\n")
    (tmp_path / "notes.txt").write_text("x")
    read_ = [piece.read() for piece in pieces(tmp_path)]
    assert [slice_.playlists[TITLE].to_list() for slice_ in read_] == [["calm"], ["gym"]]
    assert read_[0].entries["artist"].to_list() == ["Anna"]
    as_json(tmp_path / "mpd.slice.0-0", slice_text(playlist(1, "a")))
    assert read(tmp_path).playlists[TITLE].to_list() == ["list 1"]


# --- tables of tracks


def test_features_are_found_whatever_their_case(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("Track URI,Track Name,Artist Name(s),Energy,Time Signature,Duration (ms)\nx,Song,Anna,0.5,4,2000\n")
    table = read_tracks(tmp_path / "f.csv")
    assert table.select("title", "artist", "energy", "time_signature", "duration_ms").rows() == [("Song", "Anna", 0.5, 4.0, 2000.0)]


def test_the_first_of_several_artists_is_the_artist_and_a_date_has_a_year(tmp_path: Path) -> None:
    artists = ["Anna;Bob", "['Anna', 'Cy']", '["Guns N\' Roses"]', "[]"]
    path = as_table(tmp_path, "csv", track_id=[1, 2, 3, 4], artists=artists, release_date=["2020-01-02", "1999", "", "2001-07"])
    table = read_tracks(path)
    assert table["artist"].to_list() == ["Anna", "Anna", "Guns N' Roses", None]
    assert table["year"].to_list() == [2020.0, 1999.0, None, 2001.0]
    lists = as_table(tmp_path, "parquet", track_id=[1, 2, 3], artists=[["Anna", "Bob"], [], None])
    assert read_tracks(lists)["artist"].to_list() == ["Anna", None, None]


def test_tracks_may_have_any_subset_of_columns_under_several_names(tmp_path: Path) -> None:
    path = as_table(tmp_path, "parquet", track_id=[1, 2], artist_id=[7, None], album_id=[8, 8], duration_sec=[2, 3], unknown=[0, 0])
    table = read_tracks(path)
    assert table.select("track_id", "artist", "album", "duration_ms").rows() == [("1", "7", "8", 2000.0), ("2", None, "8", 3000.0)]
    assert table["energy"].null_count() == 2


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_numbers_of_tracks_are_finite_or_null(tmp_path: Path, ending: str) -> None:
    path = as_table(
        tmp_path,
        ending,
        track_uri=["a", "b", "c"],
        name=["x", "", "z"],
        tempo=[float("inf"), float("nan"), 3],
        explicit=[True, False, None],
    )
    table = read_tracks(path)
    assert table.select("title", "tempo", "explicit").rows() == [("x", None, 1.0), (None, None, 0.0), ("z", 3.0, None)]


def test_the_first_row_of_a_repeated_track_counts(tmp_path: Path) -> None:
    assert read_tracks(as_table(tmp_path, "csv", track_id=["a", "b", "a"], energy=[1, 2, 3]))["energy"].to_list() == [1, 2]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"energy": [1.0]}, "expected the columns track_id, found energy: track_id or track_uri missing"),
        ({"track_id": ["a"], "energy": ["loud"]}, "expected a number in the column energy, found 'loud' in row 1"),
        ({"track_id": ["a"], "mood": [1.0]}, "expected any of the columns title, .* beside the id, found track_id, mood"),
        ({"track_id": [None, "a"]}, "expected a track_id in every row, found 1 without"),
        ({"track_id": [[1]]}, r"expected text or a whole number in the column track_id, found \[1\] in row 1"),
    ],
)
def test_bad_tracks_are_one_line_with_both_sides(tmp_path: Path, columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(SegueError, match=message) as raised:
        read_tracks(as_table(tmp_path, "parquet", **columns))
    assert "t.parquet" in str(raised.value)


@pytest.mark.parametrize(("name", "message"), [("no.parquet", "found nothing of that name"), ("t.json", "found the ending '.json'")])
def test_tracks_that_are_no_table_are_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(SegueError, match=f"{name}: expected a .* table of tracks, {message}"):
        read_tracks(tmp_path / name)
