"""Locking and writing a database file itself, as a rollback-journal writer does.

No journal is written: whoever calls this has the new pages on disk as an LTX file, from which recovery writes them
again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from litefs.live.files import write_all
from litefs.live.handles import Handles
from litefs.live.pageset import PageSet
from litefs.live.waiting import Wait
from litefs.sqlite.locks import PENDING_BYTE, RESERVED_BYTE, SHARED_FIRST, SHARED_SIZE, unlock

# One write request of a mount carries 1 MiB at most.
_RUN_SIZE = 1 << 20


@contextmanager
def reserved(files: Handles, wait: Wait) -> Iterator[None]:
    """Keep other writers out; from then on nobody can change the journal mode either. Drops all locks at the end."""
    try:
        wait.lock(files.db, RESERVED_BYTE, reason="another writer is active")
        yield
    finally:
        files.unlock_file()


def exclude_readers(fd: int, wait: Wait) -> None:
    """Go on from `reserved` to SQLite's exclusive lock. Raises `Busy`.

    The pending lock stops new readers while the present ones finish, so a busy database cannot starve us.
    """
    wait.lock(fd, PENDING_BYTE, reason="readers are active")
    wait.lock(fd, SHARED_FIRST, SHARED_SIZE, reason="a reader does not finish")


@contextmanager
def shared(files: Handles, wait: Wait) -> Iterator[None]:
    """Read as a SQLite reader does: waits for writers that wait for readers. Raises `Busy`."""
    try:
        wait.lock(files.db, PENDING_BYTE, exclusive=False, reason="a writer holds the database")
        wait.lock(files.db, SHARED_FIRST, SHARED_SIZE, exclusive=False, reason="a writer holds the database")
        unlock(files.db, PENDING_BYTE)
        yield
    finally:
        files.unlock_file()


def apply(files: Handles, changes: PageSet, before: Callable[[], None], wait: Wait) -> bool:
    """Write the changes to the database file under SQLite's exclusive lock.

    Returns False, with nothing done, where the journal mode turned out to be another; raises `Busy`.
    """
    if files.journal_is_hot():
        files.recover(wait)
        if files.in_wal:
            return False
    with reserved(files, wait):
        if files.is_wal_on_disk() or files.journal_is_hot():
            return False
        exclude_readers(files.db, wait)
        before()
        header = files.header()
        if header is None or header.page_size != changes.page_size:
            # A log that an earlier database of that name left behind would be taken for the new one's.
            files.remove_log()
            os.ftruncate(files.db, 0)
        write_database(files.db, changes)
    return True


def install(files: Handles, size: int, before: Callable[[], None], wait: Wait) -> bool:
    """Make an empty database file grow to `size` bytes under SQLite's exclusive lock; who serves the mount fills it.

    Returns False, with nothing done, where it is not empty; raises `Busy`.
    """
    with reserved(files, wait):
        if os.fstat(files.db).st_size or files.journal_is_hot():
            return False
        exclude_readers(files.db, wait)
        before()
        files.remove_log()
        os.ftruncate(files.db, size)
    return True


def write_database(fd: int, changes: PageSet) -> None:
    """Write the pages in place, then cut or grow the file to the new size. Raises `OSError`.

    Pages behind the present end come first: when the disk has no room for them, readers still have the database as it
    was, since page 1 says how large it is.
    """
    present = os.fstat(fd).st_size // changes.page_size
    if present < changes.commit:
        for offset, data in _runs(changes, present + 1, changes.commit):
            write_all(fd, data, offset)
    for offset, data in _runs(changes, 1, min(present, changes.commit)):
        write_all(fd, data, offset)
    size = changes.commit * changes.page_size
    if os.fstat(fd).st_size != size:
        os.ftruncate(fd, size)


def _runs(changes: PageSet, low: int, high: int) -> Iterator[tuple[int, bytes]]:
    """Merge neighbouring pages, since on a mount each write costs a round trip: ``(offset, bytes)``.

    Args:
        changes: where the pages are.
        low, high: numbers of the first and the last that are wanted.
    """
    if low > high:
        return
    first, run, limit = 0, list[bytes](), max(1, _RUN_SIZE // changes.page_size)
    for pgno, page in changes.pages():
        if not low <= pgno <= high:
            continue
        if run and (pgno != first + len(run) or len(run) == limit):
            yield (first - 1) * changes.page_size, b"".join(run)
            run = []
        if not run:
            first = pgno
        run.append(page)
    if run:
        yield (first - 1) * changes.page_size, b"".join(run)
