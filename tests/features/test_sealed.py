"""A sealed folder: entries are what is on disk, and the first file that is not as listed is found."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from features.domain import SegueError
from features.sealed import (
    SEAL,
    Change,
    FileEntry,
    broken_seal,
    copy_part,
    file_entries,
    files_in,
    first_change,
    json_object,
    seal,
    unlisted,
)
from tests.damage import DAMAGES

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


def test_a_change_is_one_line() -> None:
    for change, said in (
        (Change("a", "size", 3, 2), "a: expected 3 bytes, found 2"),
        (Change("a", "size", 3, None), "a: expected a file of 3 bytes, found none"),
        (Change("a", "sha256", "1f", "2f"), "a: expected sha256 1f, found 2f: the file was changed"),
    ):
        assert str(change) == said


def test_a_name_that_is_not_listed_or_not_plain_is_found(folder: Path) -> None:
    assert unlisted(folder, CONTENT) is None
    assert unlisted(folder, {"b.npy", "empty"}) == "a/c.npy"
    (folder / "b.npy").unlink()
    (folder / "b.npy").symlink_to(folder / "empty")
    assert unlisted(folder, CONTENT) == "b.npy"


# --- a folder without a manifest of its own ---


def test_a_sealed_folder_is_whole_under_its_own_name_only(folder: Path) -> None:
    assert broken_seal(folder, "phase") == f"{SEAL}: expected the list of the files, found none"
    seal(folder, "phase")
    assert broken_seal(folder, "phase") is None
    assert broken_seal(folder, "other") == f"{SEAL}: expected the list of other, found that of 'phase'"
    (folder / "more").write_bytes(b"")
    assert broken_seal(folder, "phase") == "more: expected no such file, found one"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["a/c.npy", "b.npy", SEAL])
def test_any_damage_breaks_the_seal(folder: Path, damage: Callable[[Path, Random], None], name: str) -> None:
    seal(folder, "phase")
    damage(folder / name, Random(0))
    found = broken_seal(folder, "phase")
    assert found
    assert ": expected " in found
    assert name in found or name == SEAL
    assert "\n" not in found


def test_any_bit_of_the_list_counts(folder: Path) -> None:
    seal(folder, "phase")
    whole = (folder / SEAL).read_bytes()
    for bit in range(0, 8 * len(whole), 5):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / SEAL).write_bytes(flipped)
        assert broken_seal(folder, "phase") is not None, bit


def test_what_is_copied_is_what_was_sealed(folder: Path, tmp_path: Path) -> None:
    seal(folder, "phase")
    copy_part(folder, "a", tmp_path / "copy")
    assert [file.read_bytes() for file in (tmp_path / "copy").iterdir()] == [b"ccc"]
    (folder / "a" / "c.npy").write_bytes(b"cdc")
    with pytest.raises(SegueError, match=r"copy of .*/a: c\.npy: expected sha256 .*the file was changed\. Run the same command again"):
        copy_part(folder, "a", tmp_path / "copy")


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
