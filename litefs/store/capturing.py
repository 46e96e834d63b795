"""What applications have changed becomes a transaction: an LTX file, then a new position.

What the pages are, the WAL and the journal say (`litefs.store.wal`, `litefs.store.journal`). While the file of a large
transaction is written in a worker thread, its writer waits and holds SQLite's own write lock.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from litefs import ltx
from litefs.ltx import EMPTY
from litefs.store import position, transaction, writethrough
from litefs.store.transaction import NO_WAL, Change, PageMap, WALPart

if TYPE_CHECKING:
    from litefs.store.database import Database


async def capture(
    db: Database, pages: PageMap, commit: int, part: WALPart = NO_WAL, frames: tuple[int, int] = (0, 0)
) -> None:
    """Capture a transaction: after this it has an LTX file. No transaction when nothing changes.

    Args:
        db: where it was made.
        pages: every page it may have changed; the whole database when the page size changes.
        commit: size of the database afterwards, in pages.
        part: its bytes in the WAL.
        frames: frames of the WAL before and up to it.

    Raises:
        OSError: EROFS when this node may not write, or what the disk says; nothing was captured.
    """
    await db.arriving.passing()
    if pages.size <= transaction.SMALL:
        change = transaction.examine(pages, commit, db.table, db.state)
    else:
        change = await trio.to_thread.run_sync(transaction.examine, pages, commit, db.table, db.state)
    if is_no_change(db, change, pages.page_size, commit):
        return
    head = next_header(db, pages.page_size, commit, part)
    final = db.ltx_dir.file(head.min_txid, head.max_txid)
    if db.writes_through:
        await _write_through(db, head, change, pages, frames)
        return
    if pages.size <= transaction.SMALL:
        await db.store.gate.passing()
        db.check_writable()
        size = transaction.write_small(final, head, change)
    else:
        db.check_writable()
        size = await _write_large(db, final, head, change, pages)
    position.advance(db, head, change, size, frames=frames)


async def capture_deletion(db: Database) -> None:
    """Capture that the database is empty now.

    Raises:
        OSError: EROFS when this node may not write, or what the disk says; nothing was captured.
    """
    await db.store.gate.passing()
    db.check_writable()
    if db.writes_through:
        raise OSError(errno.EROFS, "a database can only be deleted on the primary")
    head = next_header(db, db.state.page_size, 0)
    change = Change(post_apply=EMPTY, is_wal=False)
    size = transaction.write_small(db.ltx_dir.file(head.min_txid, head.max_txid), head, change)
    db.publisher.accept()
    position.advance(db, head, change, size)


def is_no_change(db: Database, change: Change, page_size: int, commit: int) -> bool:
    """Whether the examined pages leave the database as it was: then there is no transaction."""
    return not change and commit == db.state.commit and page_size == db.state.page_size


def next_header(db: Database, page_size: int, commit: int, part: WALPart = NO_WAL) -> ltx.Header:
    """Header of the next transaction's LTX file."""
    return transaction.header(
        commit,
        page_size,
        db.state,
        part,
        flags=1 if db.store.compress else 0,
        timestamp=max(time.time_ns() // 1_000_000, db.state.timestamp),
        node_id=db.store.node_id,
    )


async def _write_large(db: Database, final: Path, head: ltx.Header, change: Change, pages: PageMap) -> int:
    temporary = db.ltx_dir.temporary()
    size = await trio.to_thread.run_sync(transaction.write_large, temporary, head, change, pages)
    try:
        await db.store.gate.passing()
        db.check_writable()  # the lease may be gone by now
        os.replace(temporary, final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return size


async def _write_through(
    db: Database, head: ltx.Header, change: Change, pages: PageMap, frames: tuple[int, int]
) -> None:  # fmt: skip
    db.check_writable()
    temporary = db.ltx_dir.temporary()
    if pages.size <= transaction.SMALL:
        size = transaction.write_small(temporary, head, change)
    else:
        size = await trio.to_thread.run_sync(transaction.write_large, temporary, head, change, pages)
    await writethrough.commit(db, head, change, temporary, size, frames)
