"""The open files of one database, and the order in which they may be closed.

A SQLite connection of this process holds POSIX locks, which vanish when any descriptor of the same file is closed.
So descriptors of the database and of its wal-index are opened once and closed only after the connection.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import quote

from litefs.errors import CorruptDatabase, FormatError
from litefs.live.log import Tail
from litefs.live.waiting import Wait
from litefs.sqlite.header import HEADER_SIZE, DatabaseHeader
from litefs.sqlite.locks import (
    PENDING_BYTE,
    SHARED_FIRST,
    SHARED_SIZE,
    WAL_CKPT,
    WAL_DMS,
    WAL_WRITE,
    try_lock,
    unlock,
)

if TYPE_CHECKING:
    from litefs.live.shm import SharedMemory

_MODE = 0o666


class Held(Enum):
    """Which lock keeps other writers out between calls, see `litefs.live.hold`."""

    NO = 0
    FILE = 1  # SQLite's reserved lock on the database file
    LOG = 2  # WAL_WRITE


class Handles:
    """Descriptors and the SQLite connection of one database path, opened as they are needed.

    While `in_wal` the connection holds SQLite's shared lock: nobody else can leave WAL mode or remove the log.
    `leaving_wal` says that the last page 1 written to the log is that of a rollback database. `users` counts `hold`.
    `held` says which write lock stays taken whatever a single operation releases. `in_use` says that applications have
    the database open, whatever locks they hold: then closing it leaves the log alone.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.in_wal = False
        self.leaving_wal = False
        self.users = 1
        self.held = Held.NO
        self.in_use = False
        self.tail = Tail()
        self._guards = 0
        self._counts = threading.Lock()
        self._sqlite = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._db = self._wal = self._shm = self._guard = -1
        self._index: SharedMemory | None = None

    @property
    def db(self) -> int:
        """The database file."""
        if self._db < 0:
            self._db = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        return self._db

    @property
    def wal(self) -> int:
        """The log."""
        if self._wal < 0:
            self._wal = os.open(self.path + "-wal", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        return self._wal

    @property
    def shm(self) -> int:
        """The wal-index, for the locks of writers. Only while `in_wal`."""
        if self._shm < 0:
            self._shm = os.open(self.path + "-shm", os.O_RDWR | os.O_CLOEXEC)
        return self._shm

    @property
    def guard(self) -> int:
        """The wal-index once more, for the locks of snapshots: two descriptors exclude each other."""
        if self._guard < 0:
            self._guard = os.open(self.path + "-shm", os.O_RDWR | os.O_CLOEXEC)
        return self._guard

    @property
    def index(self) -> SharedMemory:
        """The wal-index' contents. Only while `in_wal`."""
        if self._index is None:
            from litefs.live.shm import SharedMemory  # brings numpy, which the mount does not wait for

            self._index = SharedMemory(self.shm)
        return self._index

    def header(self) -> DatabaseHeader | None:
        """The header of the database file, which the log may overrule; None for an empty file or a foreign one."""
        try:
            return DatabaseHeader.parse(os.pread(self.db, HEADER_SIZE, 0))
        except FormatError:
            return None

    def moved(self) -> bool:
        """Whether the open files are no longer the ones that the path names."""
        if self._db < 0:
            return False
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return True
        opened = os.fstat(self._db)
        return (found.st_ino, found.st_dev) != (opened.st_ino, opened.st_dev)

    def join(self, wait: Wait) -> bool:
        """Take part in WAL mode if the database is in it; returns whether it is.

        Raises `Busy`, `CorruptDatabase`, `OSError`.
        """
        if not self.in_wal and self.is_wal_on_disk():
            self.recover(wait)
        return self.in_wal

    def recover(self, wait: Wait) -> None:
        """Let SQLite begin to read: it rolls back a hot journal and rebuilds a lost wal-index.

        Raises `Busy`, `CorruptDatabase`, `OSError`.
        """
        wait.until(self._try_read, "an application holds the database exclusively")
        if self.in_wal:
            self._secure()

    def journal_is_hot(self) -> bool:
        """Whether the rollback journal is to be rolled back, should nobody hold the reserved lock."""
        try:
            with open(self.path + "-journal", "rb") as journal:
                return journal.read(1) not in (b"", b"\0")
        except FileNotFoundError:
            return False

    def is_wal_on_disk(self) -> bool:
        """SQLite's rule: the first page says so, or the file is not empty and has a log."""
        header = self.header()
        if header is None and os.fstat(self.db).st_size == 0:
            return False
        return (header is not None and header.is_wal) or os.path.exists(self.path + "-wal")

    def remove_log(self) -> None:
        """Unlink the log and the wal-index, if there are any."""
        self._unlink("-wal", "-shm")

    def remove(self) -> None:
        """Unlink the database, its log and its journal. The database first: nobody opens a database without its log."""
        self._unlink("", "-wal", "-shm", "-journal")

    def checkpoint(self, mode: str) -> bool:
        """Run one of SQLite's checkpoints, which never waits here; returns whether all of the log was copied.

        Raises `OSError`, `CorruptDatabase`.
        """
        with self._sqlite:
            if self._connection is None:
                return False
            try:
                [(busy, frames, copied)] = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
            except sqlite3.DatabaseError as exc:
                self._raise_unless_busy(exc)
                return False
        return not busy and frames == copied

    def refresh(self) -> None:
        """Let the connection notice a new page size: with the old one it could not checkpoint."""
        with suppress(CorruptDatabase):
            self._try_read()

    def unlock_log(self, start: int = WAL_WRITE, length: int = 1) -> None:
        """Release locks of the wal-index, except the write lock while it is held."""
        if self.held is Held.LOG and start == WAL_WRITE:
            start, length = start + 1, length - 1
        if length:
            unlock(self.shm, start, length)

    def unlock_file(self) -> None:
        """Release all locks of the database file, except the reserved lock while it is held."""
        if self.held is Held.FILE:
            unlock(self.db, PENDING_BYTE)
            unlock(self.db, SHARED_FIRST, SHARED_SIZE)
        else:
            unlock(self.db, PENDING_BYTE, SHARED_FIRST + SHARED_SIZE - PENDING_BYTE)

    def hold(self) -> None:
        """Keep everything open until as many calls of `release` have been made; the creator holds it once."""
        with self._counts:
            self.users += 1

    def release(self) -> None:
        """Undo `hold`, or the creation. The last one closes everything.

        The last connection to a WAL database thereby checkpoints it and removes the log.
        """
        with self._counts:
            self.users -= 1
            if self.users:
                return
        self._close()

    def block_checkpoints(self, wait: Wait) -> None:
        """Keep everybody from copying the log to the database, shared with other calls. Raises `Busy`."""
        with self._counts:
            if not self._guards:
                wait.lock(self.guard, WAL_CKPT, exclusive=False, reason="a checkpoint is running")
            self._guards += 1

    def allow_checkpoints(self) -> None:
        """Undo `block_checkpoints`."""
        with self._counts:
            self._guards -= 1
            if not self._guards:
                unlock(self.guard, WAL_CKPT)

    def _secure(self) -> None:
        """Hold once more, by locks that no other descriptor's closing drops, what the connection holds for good."""
        try_lock(self.db, SHARED_FIRST, SHARED_SIZE, exclusive=False)
        try_lock(self.shm, WAL_DMS, exclusive=False)

    def _unlink(self, *suffixes: str) -> None:
        for suffix in suffixes:
            with suppress(FileNotFoundError):
                os.unlink(self.path + suffix)

    def _try_read(self) -> bool:
        with self._sqlite:
            try:
                if self._connection is None:
                    # mode=rw: SQLite must not be the one to create the file.
                    self._connection = sqlite3.connect(
                        f"file:{quote(self.path)}?mode=rw",
                        uri=True,
                        timeout=0,
                        isolation_level=None,
                        check_same_thread=False,
                    )
                self._connection.execute("PRAGMA schema_version").fetchall()
                self.in_wal = self._connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
            except sqlite3.DatabaseError as exc:
                self._raise_unless_busy(exc)
                return False
        return True

    def _raise_unless_busy(self, exc: sqlite3.DatabaseError) -> None:
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise CorruptDatabase(f"{self.path}: {exc}", "restore it from the primary or a backup") from exc
        if code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
            raise OSError(errno.EIO, f"{self.path}: {exc}") from exc

    def _close(self) -> None:
        if self._index is not None:
            self._index.unmap()
        if self._connection is not None:
            if self.in_use:
                # SQLite stops at this byte, and so keeps nobody from opening the database at this moment.
                try_lock(self.db, PENDING_BYTE, exclusive=False)
            elif self.in_wal:
                # To check out the log as the last connection, SQLite needs the whole range for itself.
                unlock(self.db, SHARED_FIRST, SHARED_SIZE)
            self._connection.close()
        for fd in (self._wal, self._shm, self._guard, self._db):
            if fd >= 0:
                os.close(fd)
