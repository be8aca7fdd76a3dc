"""Where a training keeps its finished phases: in a folder that every worker sees, or behind a URI.

Input: folders to be kept, by name. Output: the same folders, whole, to any process that asks. A folder is sealed with the sha256
of its files, and every process that reads it compares them once: what lost a bit, a file or its power is a DamagedError, never
read. A folder on a filesystem is finished by a rename. An object store has none: there the files are written first, under a name
never used before, then a small object that names it; without it nothing is there. Knows neither Ray nor what a phase is.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from uuid import uuid4

import pyarrow
from pyarrow import fs

from features.atomic import os_errors, replaced_whole
from features.domain import SegueError
from features.sealed import SEAL, broken_seal, json_object, seal

Say: TypeAlias = Callable[[str], None]
"""Called with a line that a person should read."""
URI = re.compile(r"[a-z][a-z0-9+.-]*://")
COMPLETE, BEGUN = "complete.json", "begun"
"""What finishes a folder behind a URI; what stands in a storage from the first moment."""
VERSION = re.compile("[0-9a-f]{32}")
"""The name, never used before, under which the files of a folder behind a URI are."""
LOCK = "lock"
CHUNK = 64 << 20
"""Bytes copied at once."""
GOOGLE_RETRY_S = 60
"""How long Google's client asks again for what it cannot reach; by itself a quarter of an hour."""
ADVICE = "Check that the address is right, and that this machine may read and write there"


class DamagedError(SegueError):
    """A finished folder that is not as it was kept; no full stop at its end."""


def say_nothing(_: str) -> None:
    """A Say that nobody hears."""


class Storage(Protocol):
    """Named folders of one training; a failed read or write is an OSError that says where."""

    def has(self, name: str) -> bool:
        """Whether the folder was finished, by whomever."""

    def keep(self, name: str, *, durable: bool = True) -> AbstractContextManager[Path]:
        """A folder to write into, which is `name` when the block ends well and is gone when it does not; what need not be
        `durable` may be cut short where a machine loses its power."""

    def path(self, name: str) -> Path:
        """Where this process reads the finished folder, until `close`. Its sums are compared when this process asks first, about
        1 s per GB and core; a DamagedError where they differ."""

    def drop(self, name: str) -> None:
        """The folder is not there any more, if it was."""

    def address(self, name: str) -> str:
        """What another program is told that is to write a folder of its own beside these."""

    def begun(self) -> bool:
        """Whether this process sees what `locked` made."""

    def locked(self) -> AbstractContextManager[None]:
        """Makes the storage, so that it is known to be writable; keeps others out as far as its kind can."""

    def holds_work(self) -> bool:
        """Whether any folder was finished, from which a training could resume."""

    def others(self) -> Mapping[str, int]:
        """The storages beside this one that hold anything, with their bytes: of other trainings, under way or left."""

    def close(self) -> None:
        """Removes what this process copied for itself."""

    def remove(self) -> None:
        """All of it."""


def storage_at(place: Path | str, name: str) -> Storage:
    """The storage `name` at `place`, a path or a URI; SegueError where it can be neither."""
    if URI.match(str(place)):
        return Remote(_joined(str(place), name))
    return Local(Path(place).absolute() / name)


def is_whole(storage: Storage, name: str, say: Say) -> bool:
    """Whether the folder is there as it was kept. One that is not is said and removed, as if it had never been finished."""
    if not storage.has(name):
        return False
    try:
        storage.path(name)
    except DamagedError as damage:
        say(f"{damage}. It is removed, and what it held is computed again")
        storage.drop(name)
        return False
    return True


@dataclass(frozen=True)
class Local:
    """A folder: a phase is read where it was written. Travels to other processes as its path, and each compares the sums itself."""

    folder: Path
    """Absolute; on a cluster a path that every worker and the driver see."""

    def __reduce__(self) -> tuple[type[Local], tuple[Path]]:
        return Local, (self.folder,)

    @cached_property
    def _compared(self) -> set[str]:
        """The folders whose sums this process compared."""
        return set()

    def has(self, name: str) -> bool:
        return (self.folder / name).is_dir()

    @contextmanager
    def keep(self, name: str, *, durable: bool = True) -> Iterator[Path]:
        sealed_name = _sealed_name(self.folder.name, name)
        self._compared.discard(name)
        with replaced_whole(self.folder / name, durable=durable) as folder:
            yield folder
            seal(folder, sealed_name)

    def path(self, name: str) -> Path:
        folder = self.folder / name
        if name not in self._compared:
            _require_as_kept(folder, _sealed_name(self.folder.name, name), str(folder))
            self._compared.add(name)
        return folder

    def drop(self, name: str) -> None:
        """By a rename, for half a folder is none."""
        if not self.has(name):
            return
        self._compared.discard(name)
        gone = Path(tempfile.mkdtemp(prefix=".", dir=self.folder))
        (self.folder / name).rename(gone / "old")
        shutil.rmtree(gone)

    def address(self, name: str) -> str:
        return str(self.folder / name)

    def begun(self) -> bool:
        return self.folder.is_dir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else, on this machine at least, has the same storage meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                found = "another one that has begun and not ended"
                raise SegueError(f"{self.folder}: expected no other training of this data and config, found {found}") from error
            yield

    def holds_work(self) -> bool:
        return any(self.folder.rglob(SEAL))

    def others(self) -> Mapping[str, int]:
        beside = (lock.parent for lock in sorted(self.folder.parent.glob(f"*/{LOCK}")))
        sizes = {str(folder): _bytes_in(folder) for folder in beside if _alike(folder.name, self.folder.name)}
        return {folder: size for folder, size in sizes.items() if size}  # of some there is but the lock, which is empty

    def close(self) -> None:
        """Nothing was copied."""

    def remove(self) -> None:
        """The folder around it too when nothing else is in there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()


@dataclass(frozen=True)
class Remote:
    """A place behind a URI: a phase is written and read in a folder of this process, and copied there and back.

    Nothing locks it. Two trainings of the same data and config at once hinder each other only at the end: each phase is of one
    of them as a whole, and both make the same, but what the first one removes the second one makes again or misses.
    Travels to other processes as its URI, and every process has its own copies, below TMPDIR.
    """

    uri: str

    def __reduce__(self) -> tuple[type[Remote], tuple[str]]:
        return Remote, (self.uri,)

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """The filesystem, and the path on it."""
        with _errors_at(self.uri):
            try:
                files, path = fs.FileSystem.from_uri(_with_retry_limit(self.uri))
            except (ValueError, ImportError) as error:
                found = " ".join(str(error).split())
                raise SegueError(
                    f"{without_secrets(self.uri)}: expected a path, or a URI such as s3://bucket/folder, gs://bucket/folder, "
                    f"hdfs://host/folder or file:///folder, found one that is not understood: {found}"
                ) from error
        return files, path.rstrip("/")

    @cached_property
    def _copies(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="segue-train-"))

    def has(self, name: str) -> bool:
        files, root = self._place
        with _errors_at(self.address(name)):
            return bool(files.get_file_info(f"{root}/{name}/{COMPLETE}").type == fs.FileType.File)

    @contextmanager
    def keep(self, name: str, *, durable: bool = True) -> Iterator[Path]:
        sealed_name, version = self._sealed_name(name), uuid4().hex
        made = self._copies / version
        made.mkdir()
        try:
            with os_errors(made):
                yield made
                seal(made, sealed_name)
            self._upload(made, name, version)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise

    def _upload(self, made: Path, name: str, version: str) -> None:
        """What was of that name before stays until the new one is there, then it goes."""
        files, root = self._place
        with _errors_at(self.address(name)):
            try:
                files.create_dir(f"{root}/{name}/{version}")
                # Arrow's own threads can lock up in an upload to S3.
                fs.copy_files(str(made), f"{root}/{name}/{version}", destination_filesystem=files, chunk_size=CHUNK, use_threads=False)
                with files.open_output_stream(f"{root}/{name}/{COMPLETE}") as marker:
                    marker.write(json.dumps({"version": version}).encode())
            except BaseException:
                with suppress(OSError, pyarrow.ArrowException):
                    files.delete_dir(f"{root}/{name}/{version}")
                raise
            for entry in files.get_file_info(fs.FileSelector(f"{root}/{name}")):
                if entry.type == fs.FileType.Directory and entry.base_name != version:
                    files.delete_dir(entry.path)

    def path(self, name: str) -> Path:
        if not self.has(name):
            raise FileNotFoundError(errno.ENOENT, f"expected the finished {name}, found none. Train again", without_secrets(self.uri))
        version = self._version(name)
        copy = self._copies / version
        if not copy.is_dir():
            self._fetch(name, version, copy)
        return copy

    def _fetch(self, name: str, version: str, copy: Path) -> None:
        files, root = self._place
        shown = without_secrets(self.address(name))
        with tempfile.TemporaryDirectory(dir=self._copies) as workplace, _errors_at(self.address(name)):
            made = Path(workplace) / "new"
            made.mkdir()
            if files.get_file_info(f"{root}/{name}/{version}").type == fs.FileType.Directory:
                fs.copy_files(f"{root}/{name}/{version}", str(made), source_filesystem=files, chunk_size=CHUNK)
            _require_as_kept(made, self._sealed_name(name), shown)
            made.rename(copy)

    def _version(self, name: str) -> str:
        files, root = self._place
        with _errors_at(self.address(name)), files.open_input_stream(f"{root}/{name}/{COMPLETE}") as stream:
            raw = stream.read()
        try:
            version = json_object(raw).get("version")
        except ValueError as error:
            version = error
        if not isinstance(version, str) or not VERSION.fullmatch(version):
            shown = without_secrets(self.address(name))
            raise DamagedError(f"{shown}/{COMPLETE}: expected the name of the newest files, found {version!r}")
        return version

    def _sealed_name(self, name: str) -> str:
        return _sealed_name(self._place[1].rpartition("/")[2], name)

    def drop(self, name: str) -> None:
        """First what finishes it, for half a folder is none."""
        files, root = self._place
        if not self.has(name):
            return
        with _errors_at(self.address(name)):
            files.delete_file(f"{root}/{name}/{COMPLETE}")
            files.delete_dir(f"{root}/{name}")

    def address(self, name: str) -> str:
        return _joined(self.uri, name)

    def begun(self) -> bool:
        files, root = self._place
        with _errors_at(self.uri):
            return bool(files.get_file_info(f"{root}/{BEGUN}").type == fs.FileType.File)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks nobody out."""
        files, root = self._place
        with _errors_at(self.uri):
            files.create_dir(root)
            with files.open_output_stream(f"{root}/{BEGUN}") as stream:
                stream.write(socket.gethostname().encode())
        yield

    def holds_work(self) -> bool:
        files, root = self._place
        with _errors_at(self.uri):
            return any(info.base_name == COMPLETE for info in files.get_file_info(fs.FileSelector(root, recursive=True)))

    def others(self) -> Mapping[str, int]:
        files, root = self._place
        with _errors_at(self.uri):
            beside = files.get_file_info(fs.FileSelector(root.rpartition("/")[0]))
            alike = [entry.path for entry in beside if _alike(entry.base_name, root.rpartition("/")[2])]
            entries = {path: files.get_file_info(fs.FileSelector(path, recursive=True)) for path in alike}
        sizes = {path: sum(info.size or 0 for info in of_path if info.base_name != BEGUN) for path, of_path in entries.items()}
        return {path: size for path, size in sizes.items() if size}

    def close(self) -> None:
        """What is asked for later is copied again."""
        shutil.rmtree(self.__dict__.pop("_copies", ""), ignore_errors=True)

    def remove(self) -> None:
        """The folder around it stays: it may be the bucket."""
        self.close()
        files, root = self._place
        with suppress(OSError, pyarrow.ArrowException):
            files.delete_dir(root)


def without_secrets(uri: str) -> str:
    """The URI as it may be shown: keys can stand before the host and behind the path."""
    return re.sub(r"\?.*", "", re.sub(r"//[^/@]*@", "//", uri, count=1))


def _joined(uri: str, name: str) -> str:
    """The settings that some URIs have behind the path stay behind it."""
    path, mark, settings = uri.partition("?")
    return f"{path.rstrip('/')}/{name}{mark}{settings}"


def _with_retry_limit(uri: str) -> str:
    if not uri.startswith(("gs://", "gcs://")) or "retry_limit_seconds=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}retry_limit_seconds={GOOGLE_RETRY_S}"


def _alike(name: str, own: str) -> bool:
    """Whether it is the name of another training's storage; beside it may be anything."""
    return name != own and re.fullmatch(f"[0-9a-f]{{{len(own)}}}", name) is not None


def _bytes_in(folder: Path) -> int:
    """Of a folder that may be written to meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(place) / name).stat().st_size
    return total


def _sealed_name(storage: str, name: str) -> str:
    """Of a folder of one training: another's, or another of the same training, is not this one. SegueError for a name that leads out
    of the storage."""
    if not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise SegueError(f"phase: expected a name inside the storage, found {name!r}. Give the source another name")
    return f"{storage}/{name}"


def _require_as_kept(folder: Path, sealed_name: str, shown: str) -> None:
    if differs := broken_seal(folder, sealed_name):
        raise DamagedError(f"{shown}: {differs}")


@contextmanager
def _errors_at(place: str) -> Iterator[None]:
    """What goes wrong with another machine is an OSError of one line that names the place."""
    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        number = getattr(error, "errno", None)
        reason = reason.removeprefix(f"[Errno {number}] ")
        raise OSError(number or errno.EIO, reason if number else f"{reason}. {ADVICE}", without_secrets(place)) from error
