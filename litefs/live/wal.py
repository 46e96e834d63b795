"""Changing and leaving a database in WAL mode that others have open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from litefs.live.log import WalTransaction, read_header, reset, try_restart
from litefs.live.pageset import PageSet
from litefs.live.rollback import write_database
from litefs.live.waiting import Wait
from litefs.sqlite.locks import WAL_READ0, WAL_READERS, WAL_RECOVER, WAL_WRITE, try_lock
from litefs.sqlite.wal import FRAME_HEADER_SIZE, frame_offset
from litefs.sqlite.walindex import WalIndexHeader, lookup

if TYPE_CHECKING:
    from litefs.live.handles import Handles

# New readers of a database whose page size changes are turned away so long, well below the 10 s that SQLite retries.
_TURN_AWAY = 2.0
_READ_VERSION = 19  # in page 1: 2 for WAL, 1 for a rollback journal
_ALL_LOCKS = WAL_READ0 + WAL_READERS - WAL_WRITE


def apply(files: Handles, changes: PageSet, before: Callable[[], None], wait: Wait) -> bool:
    """Apply the changes as one WAL transaction, or by rewriting everything if the page size differs.

    Returns False, with nothing done, where the wal-index had to be recovered first; raises `Busy`.
    """
    try:
        wait.lock(files.shm, WAL_WRITE, reason="another writer is active")
        header = read_header(files.index)
        fits = header is not None and page_size(files, header) == changes.page_size
        if header is not None and fits:
            before()
            _append(files, changes, header)
            return True
    finally:
        files.unlock_log()
    if header is None:
        files.recover(wait)
        return False
    _rewrite(files, changes, before, wait)
    return True


def page_size(files: Handles, header: WalIndexHeader) -> int:
    """The database's page size; the log may not know it while it is empty. 0 for a file without a header."""
    if header.page_size:
        return header.page_size
    found = files.header()
    return found.page_size if found else 0


def database_size(files: Handles, header: WalIndexHeader) -> int:
    """In pages; the log may not know it while it is empty."""
    return header.n_page or os.fstat(files.db).st_size // page_size(files, header)


def _append(files: Handles, changes: PageSet, header: WalIndexHeader) -> None:
    pages = _watched(files, changes.pages())
    first = next(pages, None)
    if first is None:
        if changes.commit == database_size(files, header):
            return
        # A new size without a new page: a frame has to carry it.
        first = 1, _page_one(files, header)
    header = try_restart(files.index, files.shm, header)
    WalTransaction(files.index, files.wal, header, changes.page_size, files.tail).write(
        chain([first], pages), changes.commit
    )


def _watched(files: Handles, pages: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Notice that the database is a rollback database from now on; here it stays in WAL mode while it is in use."""
    for pgno, page in pages:
        if pgno == 1:
            files.leaving_wal = page[_READ_VERSION] == 1
        yield pgno, page


def _page_one(files: Handles, header: WalIndexHeader) -> bytes:
    size = page_size(files, header)
    frame = lookup(files.index, 1, header.mx_frame)
    if frame:
        return os.pread(files.wal, size, frame_offset(frame, size) + FRAME_HEADER_SIZE)
    return os.pread(files.db, size, 0)


def _rewrite(files: Handles, changes: PageSet, before: Callable[[], None], wait: Wait) -> None:
    """Replace the database file and empty the log, with every connection shut out for the time being."""
    try:
        wait.lock(files.shm, WAL_WRITE, WAL_RECOVER - WAL_WRITE + 1, reason="a writer or checkpoint is active")
        _shut_out_readers(files, wait)
        header = read_header(files.index) or WalIndexHeader(0, 0, 0, (0, 0), bytes(8))
        before()
        os.ftruncate(files.db, 0)
        write_database(files.db, changes)
        os.ftruncate(files.wal, 0)
        reset(
            files.index, replace(header, page_size=changes.page_size, n_page=changes.commit, change=header.change + 1)
        )
    finally:
        files.unlock_log(WAL_WRITE, _ALL_LOCKS)
    files.refresh()


def _shut_out_readers(files: Handles, wait: Wait) -> None:
    """Take all read locks. Raises `Busy`.

    As long as time allows this waits for a moment without readers. Near the deadline it keeps the locks it gets,
    so that new readers wait for us.
    """
    patient = Wait(wait.deadline - _TURN_AWAY, files.path)
    while not try_lock(files.shm, WAL_READ0, WAL_READERS, exclusive=True):
        if not patient.remaining():
            for byte in range(WAL_READ0, WAL_READ0 + WAL_READERS):
                wait.lock(files.shm, byte, reason="a reader does not finish")
            return
        patient.pause("")
