"""Keeping all other writers out of a database for a while, from one operation to the next.

In WAL mode that is WAL_WRITE, else SQLite's reserved lock: readers go on in both. The lock lies on the descriptor that
operations themselves lock, so they find it free; what they release of it stays taken (`Handles.unlock_log`,
`Handles.unlock_file`).
"""

from __future__ import annotations

from contextlib import suppress

from litefs.live.handles import Handles, Held
from litefs.live.log import read_header
from litefs.live.pageset import Busy
from litefs.live.waiting import Wait
from litefs.sqlite.locks import RESERVED_BYTE, WAL_WRITE, unlock

_WRITER = "another writer is active"


def take(files: Handles, wait: Wait) -> None:
    """Take the write lock and keep it. Raises `Busy`, `CorruptDatabase`, `OSError`."""
    while not (_take_log(files, wait) if files.join(wait) else _take_file(files, wait)):
        wait.pause("its journal mode keeps changing")


def let_go(files: Handles) -> None:
    """Release what is held, if anything is."""
    held, files.held = files.held, Held.NO
    if held is Held.LOG:
        files.unlock_log()
    elif held is Held.FILE:
        unlock(files.db, RESERVED_BYTE)


def follow_mode(files: Handles, wait: Wait) -> None:
    """After a transaction from here: hold what keeps writers out in the database's journal mode from now on.

    Where a writer of another process is quicker nothing is raised, since the transaction is done; the lock is taken
    after the next one.
    """
    with suppress(Busy):
        if files.held is Held.FILE and files.join(wait) and _take_log(files, wait):
            unlock(files.db, RESERVED_BYTE)


def _take_log(files: Handles, wait: Wait) -> bool:
    wait.lock(files.shm, WAL_WRITE, reason=_WRITER)
    if read_header(files.index) is None:
        files.unlock_log()
        files.recover(wait)
        return False
    files.held = Held.LOG
    return True


def _take_file(files: Handles, wait: Wait) -> bool:
    if files.journal_is_hot():
        files.recover(wait)
        if files.in_wal:
            return False
    wait.lock(files.db, RESERVED_BYTE, reason=_WRITER)
    if files.is_wal_on_disk() or files.journal_is_hot():
        files.unlock_file()
        return False
    files.held = Held.FILE
    return True
