"""An artifact is read back as it was written, or refused in one line that says what was expected and what was found."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.artifact import MANIFEST, Artifact, ArtifactWriter, Description, Source, open_artifact, version_of
from features import atomic
from features.arrays import ArraySpec, floats
from features.domain import SegueError
from features.npy import load_array, save_array

T = TypeVar("T")

FILES = {
    "vocabulary.parquet": b"PAR1 some rows PAR1",
    "als/tracks.npy": bytes(range(200)),
    "als/index.ann": b"\0" * 64,
    "title/words.json": b"{}",
    "ranker.txt": b"",
}
EXPECTED_AND_FOUND = re.compile(r"expected .+found .+", re.DOTALL)


def description(**changes: object) -> Description:
    what = {
        "seed": 7,
        "config": {"als": {"dimension": 64, "alpha": 10.0}},
        "vocabulary_hash": "ab" * 32,
        "num_tracks": 12,
        "feature_names": ("als_score", "popularity"),
        "sources": {"als": Source(kind="als", dimension=64, metric="dot", index="exact", recall=0.97)},  # type: ignore[call-arg]
        "metrics": {"recall@500": 0.5},
    }
    return Description.model_validate(what | changes)


def write(path: Path, files: dict[str, bytes] = FILES, **changes: object) -> Path:
    with ArtifactWriter(path) as writer:
        for name, content in files.items():
            (writer.folder / name).parent.mkdir(exist_ok=True)
            (writer.folder / name).write_bytes(content)
        writer.describe(description(**changes))
    return path


def refused(path: Path, message: str | None = None, **how: Any) -> str:
    with pytest.raises(SegueError, match=message) as caught:
        open_artifact(path, **how)
    assert EXPECTED_AND_FOUND.search(str(caught.value)), caught.value
    return str(caught.value)


@pytest.mark.parametrize(
    ("metrics", "measured"),
    [
        ({"check": {"ranker": {"ndcg@500": 0.31432}}, "queries": 281}, "nDCG@500 0.3143 on 281 masked playlists"),
        ({}, "not measured"),
        ({"check": "good"}, "not measured"),
        ({"check": {"ranker": {"ndcg@500": "best"}}}, "not measured"),
    ],
)
def test_it_says_whose_model_it_is(tmp_path: Path, metrics: dict[str, object], measured: str) -> None:
    manifest = open_artifact(write(tmp_path / "model", metrics=metrics)).manifest
    said = manifest.identity()
    assert said.startswith(f"model {manifest.version}, made {manifest.created:%Y-%m-%d}")
    assert said.endswith(f"1 retrievers, 12 tracks, {measured}")
    assert manifest.git_commit[:12] in said


def attempt(call: Callable[[], T]) -> T | SegueError:
    """What the call answers, or our own error; any other error is a crash."""
    try:
        return call()
    except SegueError as error:
        return error


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def change_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((path / MANIFEST).read_text())
    change(content)
    (path / MANIFEST).write_text(json.dumps(content))


def reseal(content: dict[str, Any]) -> None:
    """What somebody would do who forges a manifest on purpose."""
    content["version"] = version_of(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "model")


# --- written and read ---


def test_what_was_written_is_read(path: Path) -> None:
    artifact = open_artifact(path)
    manifest = artifact.manifest
    assert artifact.path == path
    assert set(manifest.files) == set(FILES)
    assert {name: entry.size for name, entry in manifest.files.items()} == {name: len(content) for name, content in FILES.items()}
    assert all(entry.sha256 == hashlib.sha256(FILES[name]).hexdigest() for name, entry in manifest.files.items())
    assert Description.model_validate(manifest.model_dump(include=set(Description.model_fields))) == description()
    assert manifest.sources["als"].model_extra == {"recall": 0.97}
    assert (manifest.format_version, len(manifest.version), manifest.libraries["numpy"]) == (3, 12, np.__version__)
    assert manifest.created.utcoffset() is not None
    assert artifact.file("als/index.ann").read_bytes() == FILES["als/index.ann"]
    assert [one.name for one in path.parent.iterdir()] == ["model"]


def test_the_writer_knows_what_it_sealed(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "model") as writer:
        assert writer.manifest is None
        writer.describe(description())
    assert writer.manifest == open_artifact(tmp_path / "model").manifest


def test_a_file_the_manifest_does_not_list_has_no_path(path: Path) -> None:
    with pytest.raises(SegueError, match=r"expected the file title/idf\.npy, found als/index\.ann, .*vocabulary\.parquet"):
        open_artifact(path).file("title/idf.npy")


def test_a_link_to_an_artifact_is_followed_once(path: Path) -> None:
    current = path.with_name("current")
    current.symlink_to(path)
    assert open_artifact(current).path == path


def test_the_version_names_the_content(tmp_path: Path) -> None:
    def version(**changes: Any) -> str:
        return open_artifact(write(tmp_path / "model", **changes)).manifest.version

    assert version() == version()
    assert len({version(), version(seed=8), version(files=FILES | {"ranker.txt": b"tree"}), version(feature_names=("popularity",))}) == 4


def test_what_a_clock_said_is_no_part_of_the_version(tmp_path: Path) -> None:
    def written(milliseconds: float, recall: float = 0.97) -> Artifact:
        said = {"kind": "als", "recall": recall, "latency_ms": milliseconds, "index_tried": [{"recall": 1.0, "latency_ms": milliseconds}]}
        return open_artifact(write(tmp_path / "model", sources={"als": said}))

    assert written(3.5).manifest.version == written(4.5).manifest.version != written(4.5, recall=0.5).manifest.version
    assert written(3.5).manifest.sources["als"].model_dump()["latency_ms"] == 3.5


def test_numbers_of_numpy_and_no_numbers_at_all_can_be_described(tmp_path: Path) -> None:
    metrics = {"float32": np.float32(0.5), "int64": np.int64(3), "array": np.arange(2), "nan": float("nan"), "nan32": np.float32("nan")}
    path = write(tmp_path / "model", metrics=metrics)
    assert open_artifact(path).manifest.metrics == {"float32": 0.5, "int64": 3, "array": [0, 1], "nan": None, "nan32": None}


def test_an_object_cannot_be_described(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match=r"expected text, numbers, lists and mappings, found .*a value of type object"):
        write(tmp_path / "model", metrics={"odd": object()})
    assert not list(tmp_path.iterdir())


# --- written badly ---


def test_a_writer_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with ArtifactWriter(tmp_path / "new" / "model") as writer:
            (writer.folder / "ranker.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert tree(tmp_path) == {}
    assert not list((tmp_path / "new").iterdir())


def test_a_writer_that_fails_half_way_leaves_the_older_artifact(path: Path) -> None:
    before = tree(path.parent)

    def fail() -> None:
        with ArtifactWriter(path) as writer:
            (writer.folder / "ranker.txt").write_text("half")
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        fail()
    assert tree(path.parent) == before


def test_a_newer_artifact_replaces_an_older_one_of_any_format(path: Path) -> None:
    change_manifest(path, lambda content: content.update(format_version=0))
    write(path, files={"ranker.txt": b"newer"})
    assert set(open_artifact(path).manifest.files) == {"ranker.txt"}
    assert [one.name for one in path.parent.iterdir()] == ["model"]


def test_replacing_works_where_names_cannot_be_exchanged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    write(path, files={"ranker.txt": b"newer"})
    assert set(open_artifact(path).manifest.files) == {"ranker.txt"}
    assert [one.name for one in path.parent.iterdir()] == ["model"]


def test_an_empty_folder_may_be_written_into(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert open_artifact(write(tmp_path / "model"))


@pytest.mark.parametrize("what", ["a folder", "a file", "a link", "a folder with another manifest"])
def test_what_is_no_artifact_is_not_overwritten(tmp_path: Path, what: str) -> None:
    target = tmp_path / "model"
    if what == "a file":
        target.write_text("thesis")
    elif what == "a link":
        target.symlink_to(write(tmp_path / "elsewhere"))
    else:
        target.mkdir()
        (target / "thesis.txt").write_text("years of work")
        if what == "a folder with another manifest":
            (target / MANIFEST).write_text('{"name": "a web page"}')
    before = tree(tmp_path)
    with pytest.raises(SegueError, match=r"expected a new name or an older artifact, found a (file or a link|folder with .*thesis\.txt)"):
        write(target)
    assert tree(tmp_path) == before


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SegueError, match=r"expected a place to write to, found .*file"):
        write(tmp_path / "file" / "model")


@pytest.mark.parametrize("name", ["model.pkl", "notes", ".npy", "weights.pt", "sub/manifest.jsonl"])
def test_only_plain_formats_are_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(SegueError, match=rf"expected names inside the folder that end in .*, found '{re.escape(name)}'"):
        write(tmp_path / "model", files={name: b""})
    assert not list(tmp_path.iterdir())


def test_links_are_not_written(tmp_path: Path) -> None:
    def linked() -> None:
        with ArtifactWriter(tmp_path / "model") as writer:
            (writer.folder / "ranker.txt").symlink_to("/etc/hostname")
            writer.describe(description())

    with pytest.raises(SegueError, match=r"expected plain files and folders, found ranker\.txt"):
        linked()


def test_a_manifest_of_one_s_own_and_a_missing_description_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match=r"expected no manifest\.json before the block ends, found one"):
        write(tmp_path / "model", files={MANIFEST: b"{}"})
    with pytest.raises(SegueError, match=r"expected a description, found none"), ArtifactWriter(tmp_path / "model"):
        pass
    assert not list(tmp_path.iterdir())


# --- damaged ---


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_file_cut_short_is_refused(path: Path, name: str) -> None:
    whole = (path / name).read_bytes()
    for length in {0, len(whole) // 2, len(whole) - 1} - {len(whole), -1}:
        (path / name).write_bytes(whole[:length])
        if name == MANIFEST and json_like(whole[:length]):
            continue  # only the closing newline is gone
        message = refused(path)
        if name != MANIFEST:
            assert f"size of {name} in bytes: expected {len(whole)}, found {length}." in message
            refused(path, verify="size")


def json_like(raw: bytes) -> bool:
    try:
        return isinstance(json.loads(raw), dict)
    except ValueError:
        return False


@pytest.mark.parametrize("name", [name for name, content in FILES.items() if content])
def test_one_altered_byte_is_refused(path: Path, name: str) -> None:
    whole = (path / name).read_bytes()
    altered = bytes([whole[0] ^ 1]) + whole[1:]
    (path / name).write_bytes(altered)
    message = refused(path, rf"sha256 of {re.escape(name)}: expected ")
    assert hashlib.sha256(whole).hexdigest() in message
    assert hashlib.sha256(altered).hexdigest() in message
    assert open_artifact(path, verify="size")  # what it is for: seconds saved, this not seen


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_altered_byte_of_the_manifest_is_refused_or_says_the_same(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "model"
    if not path.exists():
        write(path)
        shutil.copy(path / MANIFEST, tmp_path / MANIFEST)
    whole = (tmp_path / MANIFEST).read_bytes()
    (path / MANIFEST).write_bytes(whole)
    manifest = open_artifact(path).manifest
    place = data.draw(st.integers(0, len(whole) - 1))
    (path / MANIFEST).write_bytes(whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :])
    found = attempt(lambda: open_artifact(path).manifest)
    if isinstance(found, SegueError):
        assert EXPECTED_AND_FOUND.search(str(found))
    else:
        assert found.model_copy(update={"created": manifest.created}) == manifest  # white space, or the unsealed moment


@pytest.mark.parametrize("name", FILES)
def test_a_removed_or_renamed_file_is_refused(path: Path, name: str) -> None:
    (path / name).rename(path / "other.npy")
    refused(path, rf"expected the 5 files of its manifest, found 5; missing: {re.escape(name)}; not listed: other\.npy")
    (path / "other.npy").unlink()
    refused(path, rf"expected the 5 files of its manifest, found 4; missing: {re.escape(name)}; not listed: none")


@pytest.mark.parametrize("name", ["extra.npy", "als/extra.json", "title/manifest.json"])
def test_an_added_file_is_refused(path: Path, name: str) -> None:
    (path / name).touch()
    refused(path, rf"expected the 5 files of its manifest, found 6; missing: none; not listed: {re.escape(name)}")


def test_an_added_file_of_another_format_is_refused(path: Path) -> None:
    (path / "model.pkl").touch()
    refused(path, r"expected names inside the folder that end in .*\.npy.*, found 'model\.pkl'")


@pytest.mark.parametrize("name", ["ranker.txt", "als", MANIFEST])
def test_a_link_in_the_place_of_a_file_or_folder_is_refused(path: Path, name: str) -> None:
    (path / name).rename(path.parent / "outside")
    (path / name).symlink_to(path.parent / "outside")
    refused(path, r"expected plain files and folders, found|expected a plain manifest\.json, found a link")


def test_a_device_in_the_place_of_a_file_is_refused(path: Path) -> None:
    (path / "ranker.txt").unlink()
    os.mkfifo(path / "ranker.txt")
    refused(path, r"expected plain files and folders, found ranker\.txt")


@pytest.mark.parametrize("version", [0, 1, 2, "3", True, None, 3.0])
def test_another_format_version_is_refused_before_anything_else(path: Path, version: object) -> None:
    change_manifest(path, lambda content: content.update(format_version=version, unheard_of=1))
    refused(path, rf"format_version: expected 3, found {re.escape(repr(version))}")


def test_an_unknown_or_missing_key_is_refused(path: Path) -> None:
    change_manifest(path, lambda content: content.update(mood="blue"))
    refused(path, r"expected the keys seed, config, .* and no other, found mood: .*'blue'")
    change_manifest(path, lambda content: content.pop("mood") and content.pop("seed"))
    refused(path, r"expected the keys seed, .*, found seed: Field required")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 8),
        ("vocabulary_hash", "cd" * 32),
        ("num_tracks", 13),
        ("feature_names", ["popularity", "als_score"]),
        ("git_commit", "none"),
    ],
)
def test_a_manifest_changed_by_hand_is_refused(path: Path, key: str, value: object) -> None:
    sealed = open_artifact(path).manifest.version
    change_manifest(path, lambda content: content.update({key: value}))
    refused(path, rf"version: expected {sealed}, found '[0-9a-f]{{12}}'")


def test_a_dimension_changed_by_hand_is_refused(path: Path) -> None:
    change_manifest(path, lambda content: content["sources"]["als"].update(dimension=63))
    refused(path, r"version: expected")


@pytest.mark.parametrize(
    "name", ["/etc/hosts.txt", "../outside.txt", "als/../../outside.txt", "./ranker.txt", "a//b.npy", "a\\b.npy", "", "a.npy/", "b\0.npy"]
)
def test_a_path_that_escapes_is_refused_even_when_resealed(path: Path, name: str) -> None:
    (path.parent / "outside.txt").write_bytes(b"")

    def forge(content: dict[str, Any]) -> None:
        content["files"][name] = content["files"]["ranker.txt"]
        reseal(content)

    change_manifest(path, forge)
    refused(path, r"expected names inside the folder that end in .*, found ")


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"null", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"format_version": 3}', b'{"format_version": ' + b"9" * 5000 + b"}"]
)
def test_what_is_no_manifest_is_refused(path: Path, raw: bytes) -> None:
    (path / MANIFEST).write_bytes(raw)
    refused(path)


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", r"expected a readable folder with manifest\.json, found .*No such file")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", r"expected a readable folder with manifest\.json, found .*Not a directory")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", r"expected a readable folder with manifest\.json, found ")


# --- arrays ---


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.asfortranarray(np.ones((3, 4))),
        np.empty((0, 8), np.int32),
        np.array(5),
    ],
    ids=["floats", "fortran", "empty", "scalar"],
)
def test_an_array_is_loaded_as_it_was_saved(tmp_path: Path, array: np.ndarray, mmap: bool) -> None:
    save_array(tmp_path / "a.npy", array)
    loaded = load_array(tmp_path / "a.npy", ArraySpec(array.dtype, array.shape), mmap=mmap)
    np.testing.assert_array_equal(loaded, array)
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
    assert loaded.flags.c_contiguous
    assert loaded.flags.writeable == (not mmap)


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [
        (np.float64, (3, 4), r"expected float64 \(3, 4\), found float32 \(3, 4\)"),
        (np.float32, (4, 3), r"expected float32 \(4, 3\), found float32 \(3, 4\)"),
        (np.float32, (None, 5), r"expected float32 \(any, 5\), found float32 \(3, 4\)"),
        (np.float32, (None,), r"expected float32 \(any\), found float32 \(3, 4\)"),
    ],
)
def test_an_array_of_another_form_is_refused(tmp_path: Path, dtype: type, shape: tuple[int | None, ...], message: str) -> None:
    save_array(tmp_path / "a.npy", np.zeros((3, 4), np.float32))
    assert load_array(tmp_path / "a.npy", floats(None, 4)).shape == (3, 4)
    with pytest.raises(SegueError, match=message):
        load_array(tmp_path / "a.npy", ArraySpec(dtype, shape))


def test_objects_are_neither_saved_nor_loaded(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match=r"expected an array of numbers, found object"):
        save_array(tmp_path / "a.npy", np.array([{}]))
    assert not list(tmp_path.iterdir())
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    for dtype in (object, np.int64):
        with pytest.raises(SegueError, match=r"expected .*, found "):
            load_array(tmp_path / "a.npy", ArraySpec(dtype, (1,)))


def test_a_missing_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match=r"expected a \.npy of float32 \(any\), found .*No such file"):
        load_array(tmp_path / "a.npy", floats(None))


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, 175), place=st.integers(0, 175), byte=st.integers(0, 255), mmap=st.booleans())
def test_a_damaged_array_is_refused_or_an_array_and_never_a_crash(tmp_path: Path, length: int, place: int, byte: int, mmap: bool) -> None:
    path = tmp_path / "a.npy"
    save_array(path, np.arange(12, dtype=np.float32).reshape(3, 4))
    whole = path.read_bytes()
    for damaged in (whole[:length], whole[:place] + bytes([byte]) + whole[place + 1 :], whole + b"x" * (place + 1)):
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy tells of a header in Python 2's spelling
            found = attempt(lambda: load_array(path, floats(None, 4), mmap=mmap))
        if isinstance(found, SegueError):
            assert EXPECTED_AND_FOUND.search(str(found))
        else:
            assert (found.shape, len(damaged)) == ((3, 4), len(whole))
            assert np.isfinite(found).all()


@pytest.mark.parametrize(
    "header",
    [
        "(" * 9000,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -4)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 4)}",
    ],
)
def test_a_header_made_to_harm_is_refused(tmp_path: Path, header: str) -> None:
    text = header.ljust(len(header) + 64 - (len(header) + 11) % 64) + "\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(32))
    for mmap in (False, True):
        with pytest.raises(SegueError, match=r"expected .*found "):
            load_array(tmp_path / "a.npy", floats(None, None), mmap=mmap)


def test_a_path_may_be_text_and_an_artifact_says_what_it_is(path: Path) -> None:
    artifact = open_artifact(str(path))
    assert artifact.path == path
    assert repr(artifact) == f"Artifact({path}, version {artifact.manifest.version}, 12 tracks, 1 source)"


@pytest.mark.parametrize("wrong", [None, 5])
def test_what_is_no_path_is_named(wrong: Any) -> None:
    with pytest.raises(SegueError, match=r"artifact: expected the path of a folder, as text or a Path, found (None|5) \("):
        open_artifact(wrong)
