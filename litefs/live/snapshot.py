"""Reading a whole database as it was at one moment, while others go on writing.

WAL: with WAL_CKPT held nobody copies the log to the database file. So the file does not change, nor can the log be
started over before it was copied: what both held at that moment stays readable. (A log that was copied entirely may
be started over at once; then the file alone is the database.)

Rollback journal: nothing but SQLite's shared lock keeps the file from changing, and that stops every commit. So the
file is copied under the lock, by the kernel, and read from the copy.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from litefs.errors import CorruptDatabase
from litefs.live import rollback
from litefs.live.files import copy_all, read_all
from litefs.live.log import read_header
from litefs.sqlite.locks import PENDING_BYTE, RESERVED_BYTE, WAL_WRITE, probe
from litefs.sqlite.wal import FRAME_HEADER_SIZE, frame_offset, frame_size
from litefs.sqlite.walindex import latest_frames, read_checkpoint_info

if TYPE_CHECKING:
    from types import TracebackType

    from litefs.live.handles import Handles
    from litefs.live.waiting import Wait
    from litefs.sqlite.header import DatabaseHeader

T = TypeVar("T")

# Up to this size a copy goes to memory rather than to a file.
_IN_MEMORY = 8 << 20


class Snapshot(Generic[T]):
    """A database at one moment. Close it in a worker thread; until then a log cannot be cut.

    Attributes:
        noted: what the caller's ``note`` returned at that moment.
        page_size: in bytes; 0 if there is no database, or an empty one.
        commit: size in pages; 0 if there is no database, or an empty one.
    """

    def __init__(self, noted: T, page_size: int = 0, commit: int = 0, source: Source | None = None) -> None:
        self.noted = noted
        self.page_size = page_size
        self.commit = commit
        self.source = source

    def pages(self, batch: int = 256) -> Iterator[tuple[int, bytes]]:
        """Yield ``(first page number, pages)`` for all pages in order, up to ``batch`` at a time.

        The lock page, whose contents mean nothing, comes as zeros. Raises `OSError`, `CorruptDatabase`.
        """
        for first in range(1, self.commit + 1, batch):
            if self.source is None:
                raise ValueError("the snapshot is closed")
            yield first, self.source.read(first, min(batch, self.commit - first + 1))

    def close(self) -> None:
        """Let checkpoints go on and free the files. Idempotent."""
        if self.source is not None:
            source, self.source = self.source, None
            source.resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class Source:
    """Where the pages of a snapshot are: in a file, or in frames of a log. ``resources`` are closed in the end."""

    name: str
    page_size: int
    database: int
    resources: ExitStack
    log: int = -1
    frames: Mapping[int, int] = field(default_factory=dict)

    def read(self, first: int, count: int) -> bytes:
        """Return consecutive pages. Raises `OSError`, `CorruptDatabase`."""
        return b"".join(self._runs(first, first + count))

    def _runs(self, pgno: int, end: int) -> Iterator[bytes]:
        """One system call for each run of pages that lie one behind the other."""
        while pgno < end:
            last = pgno + 1
            if pgno == PENDING_BYTE // self.page_size + 1:
                yield bytes(self.page_size)
            elif frame := self.frames.get(pgno):
                while last < end and self.frames.get(last) == frame + last - pgno:
                    last += 1
                yield from self._from_log(frame, last - pgno)
            else:
                while last < end and last not in self.frames and last != PENDING_BYTE // self.page_size + 1:
                    last += 1
                yield self._whole(self.database, (last - pgno) * self.page_size, (pgno - 1) * self.page_size)
            pgno = last

    def _from_log(self, frame: int, count: int) -> Iterator[bytes]:
        step = frame_size(self.page_size)
        data = self._whole(self.log, count * step, frame_offset(frame, self.page_size))
        for at in range(FRAME_HEADER_SIZE, len(data), step):
            yield data[at : at + self.page_size]

    def _whole(self, fd: int, length: int, offset: int) -> bytes:
        data = read_all(fd, length, offset)
        if len(data) < length:
            what = "log" if fd == self.log else "database file"
            raise CorruptDatabase(f"{self.name}: the {what} ends at byte {offset + len(data)}, too early")
        return data


def of_wal(files: Handles, backing: tuple[str, str], note: Callable[[], T], wait: Wait) -> Snapshot[T] | None:
    """Begin a snapshot of a WAL database; None where the wal-index had to be recovered first. Raises `Busy`."""
    with ExitStack() as resources:
        # The connection, hence the log, stays until the snapshot is closed.
        files.hold()
        resources.callback(files.release)
        files.block_checkpoints(wait)
        resources.callback(files.allow_checkpoints)
        try:
            wait.lock(files.shm, WAL_WRITE, reason="another writer is active")
            header = read_header(files.index)
            if header is not None:
                noted = note()
                backfill = read_checkpoint_info(files.index).backfill
        finally:
            files.unlock_log()
        if header is None:
            files.recover(wait)
            return None
        database = _open(files, backing[0], resources)
        # These frames stay, as the module's docstring says, so nobody has to wait while they are listed.
        frames = latest_frames(files.index, header.mx_frame, backfill + 1)
        log = -1
        if frames:
            log = os.open(backing[1], os.O_RDONLY | os.O_CLOEXEC)
            resources.callback(os.close, log)
        page_size = header.page_size or _header(files).page_size
        commit = header.n_page or os.fstat(database).st_size // page_size
        source = Source(files.path, page_size, database, resources.pop_all(), log, frames)
        return Snapshot(noted, page_size, commit, source)


def of_file(files: Handles, backing: tuple[str, str], note: Callable[[], T], wait: Wait) -> Snapshot[T] | None:
    """Take a snapshot of a rollback database; None where a hot journal or the journal mode is in the way.

    Raises `Busy`, `CorruptDatabase`.
    """
    if _needs_rollback(files):
        files.recover(wait)
        if files.in_wal:
            return None
    with rollback.shared(files, wait), ExitStack() as resources:
        if files.is_wal_on_disk() or _needs_rollback(files):
            return None
        noted = note()
        database = _open(files, backing[0], resources)
        size = os.fstat(database).st_size
        if not size:
            return Snapshot(noted)
        header = _header(files)
        commit = size // header.page_size
        if header.page_count_valid:
            # The file may be longer: SQLite grows it by chunks if asked to.
            commit = min(commit, header.page_count)
        with ExitStack() as copies:
            copy = _copy(database, commit * header.page_size, os.path.dirname(backing[0]), copies)
            return Snapshot(
                noted, header.page_size, commit, Source(files.path, header.page_size, copy, copies.pop_all())
            )


def _needs_rollback(files: Handles) -> bool:
    """SQLite's rule: a journal is hot unless its writer is alive, which its reserved lock tells."""
    return files.journal_is_hot() and probe(files.db, RESERVED_BYTE) is None


def _header(files: Handles) -> DatabaseHeader:
    header = files.header()
    if header is None:
        raise CorruptDatabase(f"{files.path}: not a SQLite database", "restore it from the primary or a backup")
    return header


def _open(files: Handles, path: str, resources: ExitStack) -> int:
    """Open the backing file, unless it is the one that must not be closed while SQLite has it open."""
    found, mine = os.stat(path), os.fstat(files.db)
    if (found.st_ino, found.st_dev) == (mine.st_ino, mine.st_dev):
        return files.db
    database = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    resources.callback(os.close, database)
    return database


def _copy(source: int, size: int, directory: str, resources: ExitStack) -> int:
    if size <= _IN_MEMORY:
        target = os.memfd_create("litefs-snapshot")
        resources.callback(os.close, target)
    else:
        file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - closed with the resources
        target = resources.enter_context(file).fileno()
    copy_all(source, target, size)
    return target
