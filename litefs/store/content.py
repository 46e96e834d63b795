"""The whole content of a database, as it arrives: the checksums of its pages, and a file that may take its place.

Where there is nothing yet, a snapshot or an import need not be written through the mount page by page: its file is
put in the place of the empty one. The client process does so as any SQLite writer, under the exclusive lock, by
growing the file to its new size, and the node exchanges the files behind it in that moment: the kernel knows of no
page of the empty file. The LTX file has its name by then, so that a crash at any moment leaves nothing, or a database
that recovery brings to what the LTX file holds.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from litefs.live.files import write_all
from litefs.store.pagetable import PageTable

_numbers = itertools.count()
_VECTOR = 256  # pieces in one system call: fewer than any system's limit


class OpenFile(Protocol):
    """An open file of the mount on the database.

    Attributes:
        fd: its descriptor.
        alive: false once the file was deleted.
        own: the node's own client process has it.
    """

    fd: int
    alive: bool
    own: bool


class Content:
    """The content of one database.

    Args:
        path: of a file beside the database, for its pages; None where there is a database already: then only the
            checksums are kept.

    Attributes:
        table: of its pages' checksums.
        is_wal: whether page 1 says so; None before it has come.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.table = PageTable()
        self.is_wal: bool | None = None
        self._fd = -1

    @classmethod
    def adopt(cls, source: Path, directory: Path, head: bytes) -> Content:
        """Content of a database file that has no name (yet) and nobody else needs: it gets a new header. Blocking.

        Where it cannot be had, the result has no file.

        Raises:
            OSError: the disk failed.
        """
        content = cls(temporary(directory))
        assert content.path is not None
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:  # a descriptor of a directory makes it follow the link, which it does not otherwise
                os.link(source, content.path.name, src_dir_fd=fd, dst_dir_fd=fd)
            finally:
                os.close(fd)
        except OSError:  # another file system, or one without nameless files
            return cls(None)
        try:
            with open(content.path, "r+b", buffering=0) as file:
                file.write(head)
        except BaseException:
            content.discard()
            raise
        return content

    def add(self, pages: Sequence[tuple[int, bytes]], checksums: Sequence[int]) -> None:
        """More pages, in ascending order; only the lock page may be missing in between. Blocking.

        Raises:
            OSError: the disk failed or is full.
        """
        start = 0
        if pages[0][0] == 1:
            self.is_wal = pages[0][1][18] == 2
        while start < len(pages):
            first = pages[start][0]
            end = min(start + _VECTOR, len(pages))
            if pages[end - 1][0] - first != end - 1 - start:  # the lock page lies between them
                end = next(at for at in range(start, end) if pages[at][0] - first != at - start)
            self._write(first, [data for _, data in pages[start:end]])
            self.table.extend(first, checksums[start:end])
            start = end

    def _write(self, first: int, pages: list[bytes]) -> None:
        if self.path is None:
            return
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        size = len(pages[0])
        offset, length = (first - 1) * size, len(pages) * size
        done = os.pwritev(self._fd, pages, offset)
        if done < length:
            write_all(self._fd, b"".join(pages)[done:], offset + done)

    def close(self) -> None:
        """No more pages come."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Delete the file, if it still has its temporary name. Idempotent."""
        self.close()
        if self.path is not None:
            with suppress(FileNotFoundError):
                self.path.unlink()

    def take_place(self, place: Path, size: int, opened: Iterable[OpenFile]) -> None:
        """Put the file in the place of the database file, also for those who have that open.

        Raises:
            OSError: nothing was exchanged.
        """
        assert self.path is not None
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            os.rename(self.path, place)
            for file in opened:
                if file.alive:
                    os.dup2(fd, file.fd, inheritable=False)
        finally:
            os.close(fd)


def temporary(directory: Path) -> Path:
    """A fresh name for a file in a database's directory; such files are removed when it is recovered."""
    return directory / f"database-{os.getpid()}-{next(_numbers)}.tmp"
