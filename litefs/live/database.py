"""Changing and reading one database that applications may have open, by SQLite's own rules of locking."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from litefs.live import hold, rollback, snapshot, wal
from litefs.live.files import write_all
from litefs.live.handles import Handles, Held
from litefs.live.pageset import Busy, PageSet
from litefs.live.waiting import Wait
from litefs.sqlite.locks import WAL_CKPT, WAL_WRITE
from litefs.sqlite.wal import FRAME_HEADER_SIZE
from litefs.sqlite.walindex import HEADER_SIZE

T = TypeVar("T")

# A log beyond this is cut when nobody reads from it; below, SQLite's habit of writing it over is cheaper.
_TRUNCATE_ABOVE = 4 << 20
# Every transaction of a rollback database says so; trying means to close and open everything.
_LEAVE_WAL_EVERY = 1.0
_MODE_CHANGES = "its journal mode keeps changing"


class LiveDatabase:
    """One database path, on the mount or in a plain directory, used as SQLite's other clients use it.

    At most one per path and process. All methods block on locks and on the file system: on a mount that this process
    serves, call them in worker threads only, and do not leave it to the garbage collector to close. Several threads
    may call at once. Until it is closed, nothing else in the process should open and close the database or its
    ``-shm`` file by their paths: that drops the locks of a checkpoint that runs meanwhile.

    Deadlines are absolute, in ``time.monotonic()`` seconds. `Busy` always means that nothing was changed.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._files = Handles(path)
        self._next_attempt = 0.0

    def apply(self, changes: PageSet, *, before: Callable[[], None], deadline: float) -> None:
        """Make the database equal to the changes.

        A WAL database gets one WAL transaction, however large: readers keep their snapshots and are not waited for.
        Otherwise, and where the page size changes, readers are waited for and shut out while the file is written.
        Connections notice a change of a file without a log by bytes 24 to 39 of page 1 alone, so new contents must
        differ there. A set with another page size must hold every page.

        Args:
            changes: what to write.
            before: called once, with the locks held and nothing written yet. What it raises is passed on, and the
                database stays as it was.
            deadline: when to give up waiting for locks.

        Raises `Busy`; `CorruptDatabase` for a WAL database that SQLite cannot read; `OSError`, after which a database
        without a log may be half written and has to be recovered.
        """
        wait = Wait(deadline, self._path)
        with self._exclusive(wait):
            if changes.commit == 0:
                self._delete(before, wait)
                return
            while not self._apply(changes, before, wait):
                wait.pause(_MODE_CHANGES)
            if self._files.held is not Held.NO:
                hold.follow_mode(self._files, wait)
            elif self._files.leaving_wal and time.monotonic() >= self._next_attempt:
                self._next_attempt = time.monotonic() + _LEAVE_WAL_EVERY
                self._leave_wal()

    def install(self, size: int, *, before: Callable[[], None], deadline: float) -> bool:
        """Let the content that the node holds ready take the place of an empty database file.

        Args:
            size: of the content, in bytes.
            before: as for `apply`; afterwards the file's growing is what the node waits for.
            deadline: when to give up waiting for locks.

        Returns False, with nothing done, where the database is not empty. Raises `Busy`, `OSError`.
        """
        wait = Wait(deadline, self._path)
        with self._exclusive(wait):
            if self._files.held is not Held.NO or self._files.in_wal:
                return False
            return rollback.install(self._files, size, before, wait)

    def hold(self, before: Callable[[], None], deadline: float) -> None:
        """Keep all other writers out until `unhold`; `apply` goes on working here, and readers everywhere.

        The database must not be closed meanwhile.

        Args:
            before: called once, with the lock held. What it raises is passed on, and nothing is held.
            deadline: when to give up waiting for locks.

        Raises `Busy`, `CorruptDatabase`, `OSError`.
        """
        wait = Wait(deadline, self._path)
        with self._exclusive(wait):
            try:
                hold.take(self._files, wait)
                before()
            except BaseException:
                hold.let_go(self._files)
                raise

    def unhold(self) -> None:
        """Let other writers go on."""
        with self._mutex:
            hold.let_go(self._files)

    def snapshot(
        self, backing_db: str, backing_wal: str, note: Callable[[], T], deadline: float
    ) -> snapshot.Snapshot[T]:
        """Begin to read the database as it is now. Writers go on.

        Args:
            backing_db: the database file where it can be read without the mount; may be the path itself.
            backing_wal: likewise for the log.
            note: called while no transaction can commit; its result is the snapshot's ``noted``.
            deadline: when to give up waiting for locks.

        Raises `Busy`, `CorruptDatabase`, `OSError`, and what ``note`` raises.
        """
        wait = Wait(deadline, self._path)
        backing = backing_db, backing_wal
        with self._exclusive(wait):
            while True:
                if not os.path.exists(self._path):
                    return snapshot.Snapshot(note())
                make = snapshot.of_wal if self._files.join(wait) else snapshot.of_file
                found = make(self._files, backing, note, wait)
                if found is not None:
                    return found
                wait.pause(_MODE_CHANGES)

    def index_header(self) -> bytes:
        """The first copy of the wal-index header; nothing without WAL. For use in ``before`` and ``note`` only.

        Opening the ``-shm`` file for that purpose instead would, on closing it, drop locks of SQLite in this process.
        """
        return self._files.index.read(0, HEADER_SIZE) if self._files.in_wal else b""

    def settle(self, judge: Callable[[bytes], int | None], deadline: float) -> None:
        """Settle what a writer left that died between its commit frame and the wal-index.

        Args:
            judge: called with the wal-index header, while nobody can commit. Where it says that a transaction at the
                end of the log is to be discarded, it returns the offset of its commit frame, which is destroyed: no
                recovery may bring it back.
            deadline: when to give up waiting for locks.

        Raises `Busy`, `CorruptDatabase`, `OSError`.
        """
        wait = Wait(deadline, self._path)
        with self._exclusive(wait):
            files = self._files
            if not os.path.exists(self._path) or not files.join(wait):
                judge(b"")
                return
            try:
                wait.lock(files.shm, WAL_WRITE, reason="another writer is active")
                offset = judge(self.index_header())
                if offset is not None:
                    write_all(files.wal, bytes(FRAME_HEADER_SIZE), offset)
            finally:
                files.unlock_log()

    def checkpoint(self) -> None:
        """Copy what can be copied of the log to the database file, by SQLite, without waiting for anybody.

        A log above 4 MiB is also emptied if nobody reads from it. A database that became a rollback database
        elsewhere gives up its log here if no other connection has it open. Raises `OSError`, `CorruptDatabase`.
        """
        if not self._mutex.acquire(blocking=False):
            return
        try:
            files = self._current()
            with suppress(Busy):
                if os.path.exists(self._path):
                    files.join(Wait(0, self._path))
            if not files.in_wal:
                return
            files.hold()
        finally:
            self._mutex.release()
        try:
            if not files.checkpoint("PASSIVE"):
                return
            if os.stat(self._path + "-wal").st_size > _TRUNCATE_ABOVE:
                files.checkpoint("TRUNCATE")
            header = files.header()
        finally:
            files.release()
        if header is not None and not header.is_wal and self._mutex.acquire(blocking=False):
            try:
                if self._files.held is Held.NO:
                    self._leave_wal()
            finally:
                self._mutex.release()

    def close(self, *, in_use: bool = False) -> None:
        """Close all files; a later call opens them again. Snapshots keep theirs, so close those first.

        The last connection to a WAL database checkpoints it and removes the log.

        Args:
            in_use: applications have it open, so this is not the last connection, even where no lock of theirs is
                found: a program that closes any descriptor of the file loses the locks of its connections.
        """
        with self._mutex:
            self._files.in_use = in_use
            self._reopen()

    @contextmanager
    def _exclusive(self, wait: Wait) -> Iterator[None]:
        if not self._mutex.acquire(timeout=wait.remaining()):
            raise Busy(f"{self._path}: another operation of this process is active")
        try:
            self._current()
            yield
        finally:
            self._mutex.release()

    def _current(self) -> Handles:
        """The open files, opened anew if the path names others by now."""
        if self._files.moved():
            self._reopen()
        return self._files

    def _reopen(self) -> None:
        files, self._files = self._files, Handles(self._path)
        files.release()

    def _apply(self, changes: PageSet, before: Callable[[], None], wait: Wait) -> bool:
        change = wal.apply if self._files.join(wait) else rollback.apply
        return change(self._files, changes, before, wait)

    def _leave_wal(self) -> None:
        """Let SQLite remove the log if this is the last connection; the others keep it alive."""
        if self._files.users == 1:
            self._reopen()

    def _delete(self, before: Callable[[], None], wait: Wait) -> None:
        """Remove the database. Connections that have it open keep the files without names, as anywhere."""
        files = self._files
        if not os.path.exists(self._path):
            before()
            files.remove()
        elif files.join(wait):
            try:
                wait.lock(files.shm, WAL_WRITE, WAL_CKPT - WAL_WRITE + 1, reason="a writer or checkpoint is active")
                before()
                files.remove()
            finally:
                files.unlock_log(WAL_WRITE, WAL_CKPT - WAL_WRITE + 1)
        else:
            with rollback.reserved(files, wait):
                rollback.exclude_readers(files.db, wait)
                before()
                files.remove()
        self._reopen()
