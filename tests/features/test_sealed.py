"""A sealed folder: entries are what is on disk, and the first file that is not as listed is found."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from features.sealed import Change, FileEntry, file_entries, files_in, first_change, json_object

CONTENT = {"b.npy": b"bb", "a/c.npy": b"ccc", "empty": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in CONTENT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_entries_are_the_bytes_on_disk_in_the_order_of_the_names(folder: Path) -> None:
    entries = file_entries(folder, CONTENT)
    assert list(entries) == list(CONTENT)
    assert entries == {name: FileEntry(sha256=sha256(content), size=len(content)) for name, content in CONTENT.items()}


def test_a_file_larger_than_a_buffer_is_hashed_whole(folder: Path) -> None:
    content = bytes(range(256)) * 10_000
    (folder / "large").write_bytes(content)
    assert file_entries(folder, ["large"])["large"] == FileEntry(sha256=sha256(content), size=len(content))


def test_files_are_named_and_links_and_devices_are_not_plain(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "b.npy")
    (folder / "folder link").symlink_to(folder / "a")
    os.mkfifo(folder / "a" / "pipe")
    assert dict(files_in(folder)) == {**dict.fromkeys(CONTENT, True), "link": False, "folder link": False, "a/pipe": False}


def test_a_folder_as_listed_has_no_change(folder: Path) -> None:
    entries = file_entries(folder, CONTENT)
    assert first_change(folder, entries, entries) is None
    assert first_change(folder, {}, ()) is None


def test_a_size_is_found_before_any_content(folder: Path) -> None:
    entries = file_entries(folder, CONTENT)
    (folder / "b.npy").write_bytes(b"xx")
    (folder / "a" / "c.npy").write_bytes(b"cc")
    assert first_change(folder, entries, entries) == Change("a/c.npy", "size", 3, 2)
    (folder / "a" / "c.npy").unlink()
    assert first_change(folder, entries, entries) == Change("a/c.npy", "size", 3, None)
    (folder / "a" / "c.npy").mkdir()
    assert first_change(folder, entries, entries) == Change("a/c.npy", "size", 3, None)


def test_content_is_compared_of_the_names_given(folder: Path) -> None:
    entries = file_entries(folder, CONTENT)
    (folder / "b.npy").write_bytes(b"xx")
    assert first_change(folder, entries, ["a/c.npy", "empty"]) is None
    assert first_change(folder, entries, entries) == Change("b.npy", "sha256", sha256(b"bb"), sha256(b"xx"))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "Expecting value"),
        (b"[1]", "a list"),
        (b"null", "a NoneType"),
        (b"\xff", "decode"),
        (b"[" * 100_000, "recursion|Stack overflow"),
    ],
)
def test_what_is_no_object_is_named(raw: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        json_object(raw)


def test_an_object_is_read() -> None:
    assert json_object(b'{"a": 1}') == {"a": 1}
