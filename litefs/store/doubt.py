"""What became of the newest transaction, which is captured, and which SQLite may still discard.

The header of the wal-index says it; asked for while the client process holds SQLite's write lock, its answer is final.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from litefs import ltx
from litefs.errors import DatabaseBusy
from litefs.live import Busy, indexwatch
from litefs.store.publisher import Captured, State

if TYPE_CHECKING:
    from litefs.store.database import Database

RESOLVE_LIMIT = 0.2  # seconds to get the write lock of a database whose last writer seems to be dead


def look(db: Database, index_header: bytes) -> State:
    """The state that SQLite's readers see, while the write lock is held; what is in doubt may be accepted by that."""
    captured = db.publisher.in_doubt
    if captured is not None and db.wal.header is not None:
        if not indexwatch.covers(index_header, captured.wal_end, db.wal.header.salt):
            return captured.before
        db.publisher.accept()
    return db.state


def settle(db: Database, index_header: bytes) -> None:
    """The client process holds the write lock and is about to write: what is in doubt is settled now."""
    look(db, index_header)
    if db.publisher.in_doubt is not None:
        db.wal.retract()


async def resolve(db: Database) -> None:
    """Find out what became of the transaction in doubt, when its writer seems to be gone.

    Raises:
        DatabaseBusy: a writer is active after all.
        OSError: the disk failed.
    """

    def judge(index_header: bytes) -> int | None:
        """Where the discarded frames begin, for the client process to destroy them."""
        look(db, index_header)
        if db.publisher.in_doubt is None or db.wal.header is None:
            return None
        offset = db.wal.last_offset
        db.wal.retract()
        return offset

    deadline = time.monotonic() + RESOLVE_LIMIT
    try:
        with db.using_live() as live:
            await live.settle(judge, deadline=deadline)
    except Busy as error:
        raise DatabaseBusy(str(error)) from None


def is_in_file(db: Database, captured: Captured) -> bool:
    """Whether the database file itself holds what the transaction wrote: then SQLite has checkpointed it."""
    page_size = captured.state.page_size
    fd = os.open(db.file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for pgno, _ in captured.undo:
            data = os.pread(fd, page_size, (pgno - 1) * page_size)
            if pgno <= captured.state.commit and (
                len(data) != page_size or ltx.page_checksum(pgno, data) != db.table.get(pgno)
            ):
                return False
    finally:
        os.close(fd)
    return True
