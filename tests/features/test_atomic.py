"""A file or folder appears under its name whole or not at all, and what was there stays until then."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors import SafetensorError

from features import atomic
from features.atomic import exchange, is_free, os_errors, replaced_whole, written_whole
from features.domain import SegueError


@pytest.fixture(params=["exchanged", "renamed"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A name that is free, on a system that can exchange two names and on one that cannot."""
    if request.param == "renamed":
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    return tmp_path / "folder"


def write(path: Path, text: str = "new", *, durable: bool = True) -> None:
    with replaced_whole(path, durable=durable) as folder:
        (folder / "below").mkdir()
        (folder / "below" / "file").write_text(text)


def read(path: Path) -> str:
    return (path / "below" / "file").read_text()


@pytest.mark.parametrize("durable", [True, False])
def test_a_folder_appears_when_the_block_ends(path: Path, durable: bool) -> None:
    with replaced_whole(path, durable=durable) as folder:
        (folder / "file").write_text("x")
        assert not path.exists()
    assert [one.name for one in path.parent.iterdir()] == ["folder"]
    assert (path / "file").read_text() == "x"


def test_missing_parents_are_made_at_the_end(path: Path) -> None:
    with replaced_whole(path / "a" / "b"):
        assert not path.exists()
    assert (path / "a" / "b").is_dir()


def test_files_are_on_the_disk_before_the_name_and_the_name_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut leaves no name whose files are empty. Folders that were made for it are on the disk too."""
    path, flushed = tmp_path / "a" / "b", list[tuple[str, bool]]()
    monkeypatch.setattr(atomic, "flush", lambda place: flushed.append((place.name or place.parent.name, path.exists())))
    write(path)
    assert flushed == [("file", False), ("below", False), ("new", False), ("a", True), (tmp_path.name, True)]


@pytest.mark.parametrize("before", ["folder", "empty folder", "file", "link"])
def test_what_had_the_name_is_replaced_and_gone(path: Path, before: str) -> None:
    if before == "folder":
        write(path, "old")
    elif before == "empty folder":
        path.mkdir()
    elif before == "file":
        path.write_text("old")
    else:
        path.symlink_to(path.parent / "nowhere")
    write(path)
    assert read(path) == "new"
    assert [one.name for one in path.parent.iterdir()] == ["folder"]


def test_a_folder_that_a_link_pointed_to_stays(path: Path) -> None:
    write(path.parent / "elsewhere", "theirs")
    path.symlink_to(path.parent / "elsewhere")
    write(path)
    assert (read(path), read(path.parent / "elsewhere")) == ("new", "theirs")


def test_a_block_that_fails_leaves_what_was_there(path: Path) -> None:
    write(path, "old")

    def fail() -> None:
        with replaced_whole(path) as folder:
            (folder / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert read(path) == "old"
    assert [one.name for one in path.parent.iterdir()] == ["folder"]


def test_a_rename_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder"
    write(path, "old")
    rename = Path.rename
    monkeypatch.setattr(atomic, "exchange", lambda one, other: False)

    def refused(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.EIO, "Input/output error", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="Input/output error"):
        write(path)
    assert read(path) == "old"
    assert [one.name for one in path.parent.iterdir()] == ["folder"]


def test_a_place_below_a_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file"), replaced_whole(tmp_path / "file" / "folder"):
        pytest.fail("the block was entered")


def test_names_are_exchanged_at_once_where_the_system_can(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"was {name}").touch()
    if exchange(tmp_path / "one", tmp_path / "other"):
        assert (tmp_path / "one" / "was other").exists()
        assert (tmp_path / "other" / "was one").exists()
    assert not exchange(tmp_path / "one", tmp_path / "nowhere")


def test_a_name_is_free_where_nothing_is_or_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert [is_free(tmp_path / name) for name in ("nothing", "empty", "file", "link", ".")] == [True, True, False, False, False]


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a" / "file") as scratch:
        scratch.write_text("x")
        assert not (tmp_path / "a" / "file").exists()
    assert [one.name for one in (tmp_path / "a").iterdir()] == ["file"]


def test_a_file_that_fails_leaves_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    def fail() -> None:
        with written_whole(tmp_path / "file") as scratch:
            scratch.write_text("half")
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        fail()
    assert [one.read_text() for one in tmp_path.iterdir()] == ["old"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_os_error_whoever_wrote(tmp_path: Path) -> None:
    def of_polars() -> None:
        pl.DataFrame({"a": range(100_000)}).write_parquet("/dev/full")

    def of_numpy() -> None:
        with Path("/dev/full").open("wb") as file:
            np.arange(1_000_000).tofile(file)

    def of_safetensors() -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    for write_much in (of_polars, of_numpy, of_safetensors):
        with pytest.raises(OSError, match="No space left") as caught, os_errors(tmp_path / "out"):
            write_much()
        assert caught.value.errno == errno.ENOSPC


def test_another_error_stays_what_it_is(tmp_path: Path) -> None:
    def raising(error: Exception) -> None:
        with os_errors(tmp_path):
            raise error

    for error in (ValueError("no number"), SegueError("found no such file (os error 2)"), PermissionError(13, "Permission denied")):
        with pytest.raises(type(error)) as caught:
            raising(error)
        assert caught.value is error
