"""A place for objects that are encrypted before they get there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from litefs_backup_store import sealing
from litefs_backup_store.keys import Key
from litefs_backup_store.objects import Item, Objects, StorageError


class SealedObjects:
    """Another place, with a lock: writes with the first key, reads with all of them, and what was never encrypted.

    Without keys it writes as it is, and says what is missing when it meets something encrypted.
    """

    def __init__(self, objects: Objects, keys: Sequence[Key]) -> None:
        self._objects = objects
        self._keys = keys

    @property
    def url(self) -> str:
        """That of the other place."""
        return self._objects.url

    def get(self, key: str) -> tuple[bytes, str]:
        """Read, and decrypt."""
        data, version = self._objects.get(key)
        return (sealing.unseal_bytes(data, key, self._keys) if sealing.is_sealed(data) else data), version

    def replace(self, key: str, data: bytes, version: str | None) -> str:
        """Encrypt, and write."""
        if self._keys:
            data = sealing.seal_bytes(data, key, self._keys[0])
        return self._objects.replace(key, data, version)

    def upload(self, key: str, path: Path) -> None:
        """Encrypt a file, and write it."""
        if not self._keys:
            self._objects.upload(key, path)
            return
        with _beside(path) as encrypted:
            with _words(path), open(path, "rb") as source, open(encrypted, "xb") as target:
                sealing.seal(source, target, key, self._keys[0])
            self._objects.upload(key, encrypted)

    def download(self, key: str, path: Path) -> None:
        """Read into a new file, and decrypt."""
        with _beside(path) as fetched:
            self._objects.download(key, fetched)
            with _words(path):
                if self.is_sealed(fetched):
                    _open_into(path, fetched, lambda source, target: sealing.unseal(source, target, key, self._keys))
                else:
                    os.replace(fetched, path)

    @staticmethod
    def is_sealed(path: Path) -> bool:
        """Whether a downloaded file is encrypted."""
        with open(path, "rb") as file:
            return sealing.is_sealed(file.read(len(sealing.MAGIC)))

    def copy(self, source: str, target: str) -> None:
        """Decrypt, and encrypt again: an object's name is a part of its key."""
        with tempfile.TemporaryDirectory(prefix="litefs-copy-") as scratch:
            path = Path(scratch) / "object"
            self.download(source, path)
            self.upload(target, path)

    def list(self, prefix: str) -> Iterator[Item]:
        """List; sizes are as they are stored."""
        return self._objects.list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects."""
        self._objects.delete(keys)

    def close(self) -> None:
        """Free connections."""
        self._objects.close()


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name for a file of our own in the same directory; the file is gone afterwards."""
    other = path.with_name(f"{path.name}.sealed")
    try:
        yield other
    finally:
        other.unlink(missing_ok=True)


def _open_into(path: Path, fetched: Path, unseal: Callable[[BinaryIO, BinaryIO], None]) -> None:
    try:
        with open(fetched, "rb") as source, open(path, "xb") as target:
            unseal(source, target)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{error.filename or path}: {error.strerror or error}") from error
