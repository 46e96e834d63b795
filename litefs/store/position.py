"""A database's position moves: forward with a transaction that has its LTX file, back with one that does not count.

Only in the trio thread, and without an await: position, table of page checksums and LTX files always fit each other.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from litefs import ltx
from litefs.ltx import Pos
from litefs.store.publisher import Captured, State
from litefs.store.transaction import Change

if TYPE_CHECKING:
    from litefs.store.database import Database

log = logging.getLogger(__name__)


def advance(
    db: Database,
    head: ltx.Header,
    change: Change,
    size: int,
    *,
    frames: tuple[int, int] = (0, 0),
    sure: bool = False,
) -> None:
    """The LTX file of a captured transaction is in place: move the position.

    Args:
        db: whose transaction it is.
        head: header of the LTX file.
        change: what it changes.
        size: of the LTX file, in bytes.
        frames: frames of the WAL before and up to it.
        sure: it counts, whether or not this node may write by now.

    Raises:
        OSError: EROFS when the time of the lease ran out while it was captured; it is taken back, with its file.
    """
    before = db.state
    is_wal = before.is_wal if change.is_wal is None else change.is_wal
    db.state = State(Pos(head.max_txid, change.post_apply), head.page_size, head.commit, head.timestamp, is_wal)
    in_doubt = frames[1] > 0 and db.shm_users > 0
    undo = _undo(db, before, head, change)
    _move_table(db, before, head, change)
    db.ltx_dir.add(head.min_txid, head.max_txid, size)
    db.counters.commits += 1
    db.publisher.add(Captured(db.state, before, *frames, undo, accepted=not in_doubt))
    if not sure:
        _confirm(db)
    db.position_moved()
    if len(db.publisher):
        db.store.pending(db)


def _confirm(db: Database) -> None:
    """The last look at the lease before the commit is answered, which the caller does without an await.

    The process may have stood still for longer than the lease at any point before, and another node may be primary.
    """
    if not db.writable:
        retract(db, "the lease ran out while it was captured")
        db.check_writable()
    db.publisher.confirm()


def _undo(db: Database, before: State, head: ltx.Header, change: Change) -> list[tuple[int, int]]:
    undo = [(pgno, db.table.get(pgno)) for pgno, _ in change.checksums]
    if head.commit < before.commit:
        undo += db.table.tail(head.commit)
    return undo


def _move_table(db: Database, before: State, head: ltx.Header, change: Change) -> None:
    if head.page_size != before.page_size:
        db.table.clear()
    db.table.update(change.checksums)
    if head.commit < before.commit:
        db.table.truncate(head.commit)


def retract(db: Database, reason: str = "discarded by SQLite") -> Captured:
    """Take back the newest transaction: it is in doubt and SQLite has discarded it, or it was never answered."""
    captured = db.publisher.retract()
    txid = captured.state.pos.txid
    log.debug("%s: retracting transaction %s: %s", db.name, ltx.format_txid(txid), reason)
    db.ltx_dir.remove((txid, txid))
    if captured.state.page_size != captured.before.page_size:
        db.table.clear()
    db.table.truncate(captured.before.commit)
    db.table.update(captured.undo)
    db.state = captured.before
    db.disk.retracted(txid)
    db.counters.commits -= 1
    db.position_moved()
    return captured
