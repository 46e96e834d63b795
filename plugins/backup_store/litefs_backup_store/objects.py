"""Where objects are kept: the few operations that a vault needs of a folder or an object storage. All of it blocks.

An object is there completely, or not at all. Small objects that change are replaced only if they are what the writer
has seen (`replace`), so that of two writers one learns of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from litefs.backup import BackupError


class StorageError(BackupError):
    """The place cannot be reached, or refuses."""


class ObjectMissing(StorageError):
    """There is no such object."""

    def __init__(self, key: str) -> None:
        super().__init__(f"object not found: {key}")
        self.key = key


class ObjectChanged(StorageError):
    """The object is not, or no longer, what the writer has seen."""

    def __init__(self, key: str) -> None:
        super().__init__(f"object changed meanwhile: {key}")


class Damaged(StorageError):
    """A stored object is not what it was."""


@dataclass(frozen=True, slots=True)
class Item:
    """An object in a listing.

    Attributes:
        key: path with slashes.
        size: bytes.
        version: changes whenever the content does.
        modified: seconds since the epoch.
    """

    key: str
    size: int
    version: str
    modified: float


class Objects(Protocol):
    """A place for objects. Its methods are called in worker threads, several at a time; all raise StorageError."""

    @property
    def url(self) -> str:
        """Where it is, without secrets."""

    def get(self, key: str) -> tuple[bytes, str]:
        """Content and version of a small object. Raises ObjectMissing."""

    def replace(self, key: str, data: bytes, version: str | None) -> str:
        """Write a small object if its version is this one, or, for None, if there is none; the new version.

        Raises:
            ObjectChanged: it is another one; nothing was written.
        """

    def upload(self, key: str, path: Path) -> None:
        """Write an object from a file."""

    def download(self, key: str, path: Path) -> None:
        """Write an object's content to a new file. Raises ObjectMissing."""

    def copy(self, source: str, target: str) -> None:
        """Write an object with the content of another one. Raises ObjectMissing."""

    def list(self, prefix: str) -> Iterator[Item]:
        """The objects whose keys begin with a prefix that ends in a slash, in no particular order."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are no error."""

    def close(self) -> None:
        """Free connections."""
