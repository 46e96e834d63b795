"""Transactions of applications on a replica that holds the halt lock: the primary commits them first.

    captured here under a temporary name  ->  sent, committed by the primary  ->  counts here, too

The primary also sends every transaction back on the stream. That is as good as its answer, which may be lost; and it
is what brings a transaction here whose writer was told that it failed because nobody could know.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

from litefs import ltx
from litefs.ltx import Pos
from litefs.store import position
from litefs.store.transaction import Change

if TYPE_CHECKING:
    from litefs.store.database import Database

LOOK = 0.05  # seconds between looks whether a transaction is decided


class Sending:
    """A transaction that is with the primary.

    Attributes:
        pos: where it leads.
        came_back: set when the stream has brought it: then the primary has it.
    """

    def __init__(self, path: Path, pos: Pos) -> None:
        self.path = path
        self.pos = pos
        self.came_back = trio.Event()


class Writer(Protocol):
    """The right to write a database of the primary (`litefs.cluster.remote`)."""

    @property
    def valid(self) -> bool:
        """Whether this node still has it."""

    async def commit(self, sending: Sending) -> None:
        """Have the primary commit a transaction. Raises OSError when it did not, or nobody knows."""

    def end(self, reason: str) -> None:
        """This node does not have it any more."""


async def commit(
    db: Database, head: ltx.Header, change: Change, temporary: Path, size: int, frames: tuple[int, int] = (0, 0)
) -> None:
    """Commit a transaction on the primary and then here.

    Args:
        temporary: its LTX file; it is gone afterwards.
        size: of that, in bytes.
        frames: frames of the WAL before and up to it.

    Raises:
        OSError: the primary did not commit it, or nobody knows; it does not count here.
    """
    try:
        db.check_writable()
        assert db.writer is not None
        db.sending = Sending(temporary, Pos(head.max_txid, change.post_apply))
        try:
            await db.writer.commit(db.sending)
            os.replace(temporary, db.ltx_dir.file(head.min_txid, head.max_txid))
            position.advance(db, head, change, size, frames=frames, sure=True)
        finally:
            db.sending = None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


async def came_back(db: Database, pos: Pos) -> bool:
    """Whether a transaction that the stream brings was made here and stays; returns when that is decided.

    Args:
        pos: where it leads.
    """
    if db.sending is not None and db.sending.pos == pos:
        db.sending.came_back.set()
    while _undecided(db, pos):
        with trio.move_on_after(LOOK):
            await db.moved.wait()
    if db.pos.txid > pos.txid:
        path = db.ltx_dir.single(pos.txid)
        return path is not None and _leads_to(path) == pos
    return db.pos == pos


def _undecided(db: Database, pos: Pos) -> bool:
    """Its writer waits for the primary, or may have died before SQLite considered it committed."""
    if db.sending is not None and db.sending.pos == pos:
        return True
    return db.pos == pos and db.publisher.in_doubt is not None


def _leads_to(path: Path) -> Pos:
    with open(path, "rb") as file:
        head, trailer = ltx.read_info(file, path.name)
    return Pos(head.max_txid, trailer.post_apply)
