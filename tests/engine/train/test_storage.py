"""Both kinds of storage keep the same promises; what is behind a URI is behind Arrow's local filesystem here."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pyarrow import fs

from engine.train.launch import train
from engine.train.storage import COMPLETE, DamagedError, Local, Remote, Storage, is_whole, storage_at, without_secrets
from features.domain import SegueError
from features.sealed import SEAL
from stages.retrieve.als.model import AlsRecipe
from tests.damage import DAMAGES, swapped
from tests.engine.training import CONFIG, Heard, make_dataset

NAME = "0123456789abcdef"
OTHER = "f" * 16
READER = """
import sys
from engine.train.storage import storage_at

storage = storage_at(sys.argv[1], sys.argv[2])
folder = storage.path("masked 1/als")
print((folder / "files" / "rows").read_text(), folder)
with storage.keep("final/als") as made:
    (made / "x").write_text("theirs")
storage.close()
"""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process keeps its copies."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture(params=["local", "remote"])
def place(request: pytest.FixtureRequest, tmp_path: Path, scratch: Path) -> Path | str:
    return tmp_path / "place" if request.param == "local" else f"file://{tmp_path}/place"


@pytest.fixture
def storage(place: Path | str) -> Iterator[Storage]:
    storage = storage_at(place, NAME)
    with storage.locked():
        yield storage
    storage.close()


def fill(storage: Storage, text: str = "rows", name: str = "masked 1/als") -> None:
    with storage.keep(name) as folder:
        (folder / "files").mkdir()
        (folder / "files" / "rows").write_text(text)
        (folder / "said.json").write_text("{}")


def rows(storage: Storage, name: str = "masked 1/als") -> str:
    return (storage.path(name) / "files" / "rows").read_text()


def files_in(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path / "place")) for path in (tmp_path / "place").rglob("*") if path.is_file())


def test_what_is_kept_is_read_by_others(storage: Storage, place: Path | str) -> None:
    assert not storage.has("masked 1/als")
    fill(storage)
    for reader in (storage, storage_at(place, NAME), pickle.loads(pickle.dumps(storage))):
        assert reader.begun()
        assert reader.has("masked 1/als")
        assert rows(reader) == "rows"
        reader.close()
        assert rows(reader) == "rows"
        reader.close()


def test_another_process_needs_no_common_folder(tmp_path: Path, scratch: Path) -> None:
    """Its copies are elsewhere, and it has nothing but the URI."""
    storage = storage_at(f"file://{tmp_path}/place", NAME)
    with storage.locked():
        fill(storage)
        storage.close()
        (tmp_path / "elsewhere").mkdir()
        process = subprocess.run(
            [sys.executable, "-c", READER, f"file://{tmp_path}/place", NAME],
            env={**os.environ, "TMPDIR": str(tmp_path / "elsewhere"), "PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        assert process.stdout.split()[0] == "rows"
        assert str(tmp_path / "elsewhere") in process.stdout
        assert (storage.path("final/als") / "x").read_text() == "theirs"
        assert list((tmp_path / "elsewhere").iterdir()) == []
    storage.remove()
    assert list(scratch.iterdir()) == []


def test_kept_again_is_replaced_as_a_whole(storage: Storage, place: Path | str, tmp_path: Path) -> None:
    fill(storage)
    before = files_in(tmp_path)
    fill(storage, "newer")
    assert rows(storage) == rows(storage_at(place, NAME)) == "newer"
    assert len(files_in(tmp_path)) == len(before)


def test_what_failed_is_not_there(storage: Storage, tmp_path: Path) -> None:
    fill(storage)
    before = files_in(tmp_path)
    for name in ("masked 1/als", "final/als"):
        with pytest.raises(FileNotFoundError), storage.keep(name) as folder:
            fill(Local(folder), name="half") or (folder / "nowhere").read_text()
    assert not storage.has("final/als")
    assert rows(storage) == "rows"
    assert files_in(tmp_path) == before


def test_what_is_dropped_is_not_there(storage: Storage, tmp_path: Path) -> None:
    before = files_in(tmp_path)
    storage.drop("masked 1/als")
    fill(storage)
    storage.drop("masked 1/als")
    storage.drop("masked 1/als")
    assert not storage.has("masked 1/als")
    assert files_in(tmp_path) == before
    fill(storage, "again")
    assert rows(storage) == "again"


def test_removed_is_gone(storage: Storage, tmp_path: Path, scratch: Path) -> None:
    fill(storage)
    storage.remove()
    assert not storage.begun()
    assert [*(tmp_path / "place").rglob("*")] == [] if (tmp_path / "place").exists() else True
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("file", ["rows", "said.json", SEAL])
def test_what_was_damaged_is_said_and_gone(
    storage: Storage, place: Path | str, tmp_path: Path, damage: Callable[[Path, Random], None], file: str
) -> None:
    fill(storage)
    (found,) = (tmp_path / "place").rglob(file)
    damage(found, Random(0))
    reader, said = storage_at(place, NAME), list[str]()
    with pytest.raises(DamagedError, match=rf"masked 1/als: .*{'' if file == SEAL else file}: expected .*, found"):
        reader.path("masked 1/als")
    assert not is_whole(reader, "masked 1/als", said.append)
    assert len(said) == 1
    assert "\n" not in said[0]
    assert not storage_at(place, NAME).has("masked 1/als")
    fill(reader, "again")
    assert is_whole(reader, "masked 1/als", said.append)
    assert rows(reader) == "again"
    reader.close()


def test_a_folder_in_anothers_place_is_none(storage: Storage, place: Path | str, tmp_path: Path) -> None:
    """Whole as it is."""
    for name in ("masked 1/als", "final/als"):
        fill(storage, name, name)
    root = tmp_path / "place" / NAME
    swapped(root / "masked 1" / "als", root / "final" / "als")
    reader = storage_at(place, NAME)
    with pytest.raises(DamagedError, match=r"expected the list of .*/masked 1/als, found that of '.*/final/als'"):
        reader.path("masked 1/als")
    reader.close()


@pytest.mark.parametrize("name", ["../x", "final/../../x", "/tmp/x", "final//x", ""])
def test_a_name_that_leads_out_is_refused(storage: Storage, name: str) -> None:
    with pytest.raises(SegueError, match="expected a name inside the storage, found"), storage.keep(name):
        raise AssertionError(name)
    with pytest.raises((SegueError, FileNotFoundError), match=r"expected a name inside the storage|expected the finished"):
        storage.path(name)


def test_only_what_was_finished_is_work(storage: Storage, place: Path | str, tmp_path: Path) -> None:
    assert not storage.holds_work()
    (tmp_path / "place" / NAME / "ray").mkdir()
    (tmp_path / "place" / NAME / "ray" / "state.json").write_text("{}")
    assert not storage.holds_work()
    fill(storage)
    assert storage.holds_work()
    with storage_at(place, OTHER).locked():
        pass
    assert not storage.others()


def test_only_other_trainings_are_others(storage: Storage, place: Path | str, tmp_path: Path) -> None:
    other = storage_at(place, OTHER)
    with other.locked():
        fill(other, "12345")
    (tmp_path / "place" / "photos").mkdir()
    (tmp_path / "place" / "photos" / "lock").touch()
    ((address, size),) = storage.others().items()
    assert address.endswith(OTHER)
    assert size >= 7


def test_a_full_disk_keeps_what_was_finished(storage: Storage, tmp_path: Path) -> None:
    fill(storage)
    with pytest.raises(OSError, match="No space left") as caught, storage.keep("final/als"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC
    assert storage.has("masked 1/als")
    assert not storage.has("final/als")


def test_a_full_disk_is_told_of_by_its_name(storage: Storage) -> None:
    """This is all that numpy says of it."""
    with pytest.raises(OSError, match="No space left") as caught, storage.keep("final/als"):
        raise OSError("262145 requested and 4080 written")
    assert caught.value.errno == errno.ENOSPC


class TestRemote:
    """What only an object store can do wrong."""

    @pytest.fixture
    def remote(self, tmp_path: Path, scratch: Path) -> Iterator[Remote]:
        remote = Remote(f"file://{tmp_path}/place/{NAME}")
        with remote.locked():
            yield remote
        remote.close()

    @pytest.fixture
    def refuses(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        def refuse(name: str) -> None:
            def refused(*_: object, **__: object) -> None:
                raise OSError("AWS Error ACCESS_DENIED\nin two lines")

            monkeypatch.setattr(fs, name, refused)

        return refuse

    def test_without_its_marker_it_is_not_there(self, remote: Remote, tmp_path: Path) -> None:
        fill(remote)
        (tmp_path / "place" / NAME / "masked 1" / "als" / COMPLETE).unlink()
        assert not remote.has("masked 1/als")
        with pytest.raises(FileNotFoundError, match="expected the finished masked 1/als, found none"):
            remote.path("masked 1/als")
        fill(remote, "again")
        assert len(files_in(tmp_path)) == 5

    @pytest.mark.parametrize("said", ["", "{", "[]", "{}", '{"version": 5}', '{"version": "../../x"}', '{"version": "' + "0" * 32 + '"}'])
    def test_a_marker_that_names_nothing_is_told_of(self, remote: Remote, tmp_path: Path, scratch: Path, said: str) -> None:
        fill(remote)
        remote.close()
        (tmp_path / "place" / NAME / "masked 1" / "als" / COMPLETE).write_text(said)
        assert remote.has("masked 1/als")
        with pytest.raises(DamagedError, match=r"masked 1/als.*: expected the (name of the newest files|list of the files), found"):
            remote.path("masked 1/als")
        assert [*scratch.rglob("rows")] == []

    def test_a_refused_upload_is_one_line(self, remote: Remote, refuses: Callable[[str], None], tmp_path: Path, scratch: Path) -> None:
        fill(remote)
        before = files_in(tmp_path)
        refuses("copy_files")
        with pytest.raises(OSError, match=r"ACCESS_DENIED in two lines\. Check that the address is right") as caught:
            fill(remote, "newer")
        assert caught.value.filename == f"{remote.uri}/masked 1/als"
        assert files_in(tmp_path) == before
        assert rows(remote) == "rows"

    def test_a_storage_that_vanished_is_told_of(self, remote: Remote) -> None:
        fill(remote)
        remote.remove()
        assert not remote.has("masked 1/als")
        with pytest.raises(FileNotFoundError, match="expected the finished"):
            remote.path("masked 1/als")


@pytest.mark.parametrize("uri", ["nonsense://bucket/x", "s3://bucket/x?nonsense=1", "file://other-machine/x"])
def test_a_uri_that_is_none_is_one_line(uri: str) -> None:
    with pytest.raises(SegueError, match=f"{uri.split('?')[0]}.*: expected a path, or a URI such as s3://.*, found") as caught:
        storage_at(uri, NAME).has("x")
    assert "\n" not in str(caught.value)


def test_a_store_out_of_reach_is_told_of_before_the_training(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    (tmp_path / "closed").touch()
    with pytest.raises(OSError, match="Not a directory"):
        train(dataset, tmp_path / "artifact", CONFIG, workers=0, storage=f"file://{tmp_path}/closed", report=Heard())
    assert not (tmp_path / "artifact").exists()


def test_keys_are_not_shown() -> None:
    assert without_secrets("s3://key:secret@bucket/x?endpoint_override=host") == "s3://bucket/x"
    assert Remote("s3://key:secret@bucket/x?a=b").address("ray") == "s3://key:secret@bucket/x/ray?a=b"


def test_a_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage_at("here", NAME) == Local(tmp_path / "here" / NAME)


def test_a_training_behind_a_uri_is_resumed(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, fits, original = make_dataset(tmp_path), [0], AlsRecipe.fit

    def fourth_breaks(self: AlsRecipe, *args: Any) -> Any:
        fits[0] += 1
        if fits[0] == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(self, *args)

    def trained(out: Path, place: str | None) -> str:
        return train(dataset, out, CONFIG, workers=0, storage=place, report=Heard(), threads=1).version

    place = f"file://{tmp_path}/place"
    with monkeypatch.context() as patch:
        patch.setattr(AlsRecipe, "fit", fourth_breaks)
        with pytest.raises(OSError, match="No space left"):
            trained(tmp_path / "artifact", place)
        assert [*scratch.glob("segue-*")] == []
        assert not (tmp_path / "artifact").exists()
        ((address, _),) = storage_at(place, OTHER).others().items()
        assert Remote(f"file://{address}").has("examples 1/0")
        version = trained(tmp_path / "artifact", place)
    assert fits[0] == 5
    assert [*scratch.glob("segue-*")] == []
    assert [*(tmp_path / "place").rglob("*")] == []
    assert trained(tmp_path / "undisturbed", None) == version
