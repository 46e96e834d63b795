"""Objects as files of a folder. A file has its name only once it is complete and durable."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from litefs.store.syncing import sync_directory
from litefs_backup_store.objects import Item, ObjectChanged, ObjectMissing, StorageError

TEMPORARY = ".tmp-"
LEFTOVER = 3600.0
"""Seconds after which a file that is not complete belongs to a process that is gone."""

_numbers = itertools.count()


class FolderObjects:
    """A folder, which several processes of one machine (or of several, where the file system locks) may share."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root).absolute()

    @property
    def url(self) -> str:
        """The folder."""
        return f"file://{self._root}"

    def get(self, key: str) -> tuple[bytes, str]:
        """Read a file."""
        with _words(key):
            data = (self._root / key).read_bytes()
        return data, _version(data)

    def replace(self, key: str, data: bytes, version: str | None) -> str:
        """Replace a file under the folder's lock."""
        path = self._root / key
        with _words(key), self._locked():
            try:
                current = _version(path.read_bytes())
            except FileNotFoundError:
                current = None
            if current != version:
                raise ObjectChanged(key)
            temporary = self._temporary(path)
            try:
                temporary.write_bytes(data)
                self._publish(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        return _version(data)

    def upload(self, key: str, path: Path) -> None:
        """Copy a file into the folder."""
        self._copy(path, key)

    def download(self, key: str, path: Path) -> None:
        """Copy a file out of the folder."""
        with _words(key):
            shutil.copyfile(self._root / key, path)

    def copy(self, source: str, target: str) -> None:
        """Give a file a second name."""
        path = self._root / target
        with _words(source):
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.link(self._root / source, path)
            sync_directory(path.parent)

    def list(self, prefix: str) -> Iterator[Item]:
        """Walk a directory."""
        top = self._root / prefix
        for directory, _, names in os.walk(top):
            for name in names:
                path = Path(directory, name)
                if name.startswith(TEMPORARY):
                    self._sweep(path)
                    continue
                with suppress(FileNotFoundError):
                    found = path.stat()
                    version = f"{found.st_mtime_ns}-{found.st_ino}-{found.st_size}"
                    yield Item(path.relative_to(self._root).as_posix(), found.st_size, version, found.st_mtime)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove files."""
        for key in keys:
            with _words(key):
                (self._root / key).unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is open."""

    def _copy(self, source: Path, key: str) -> None:
        path = self._root / key
        with _words(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._temporary(path)
            try:
                shutil.copyfile(source, temporary)
                self._publish(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)

    def _temporary(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.parent / f"{TEMPORARY}{os.getpid()}-{next(_numbers)}"

    @staticmethod
    def _publish(temporary: Path, path: Path) -> None:
        fd = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
        sync_directory(path.parent)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @staticmethod
    def _sweep(path: Path) -> None:
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - LEFTOVER:
                path.unlink()


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def _words(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ObjectMissing(key) from None
    except OSError as error:
        raise StorageError(f"{error.filename or key}: {error.strerror or error}") from error
