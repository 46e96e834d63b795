"""A database that is halted: held still on the primary, so that another node may write it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from litefs.errors import DatabaseBusy, ReadOnly
from litefs.live import Busy
from litefs.ltx import Pos
from litefs.store import doubt

if TYPE_CHECKING:
    from litefs.store.database import Database

NOWHERE = Pos(0, 0)


@dataclass(eq=False, slots=True)
class Halt:
    """One node's right to be the only writer of a database.

    Attributes:
        lock_id: made up by that node; any signed 64-bit number.
        node_id: the node.
        pos: where the database was when it was halted.
        expires: when the right ends, in seconds of the clock of who gave it.
    """

    lock_id: int
    node_id: int
    pos: Pos = NOWHERE
    expires: float = 0.0


@asynccontextmanager
async def halted(db: Database, halt: Halt, patience: float) -> AsyncIterator[None]:
    """Keep everybody else from writing the database inside the block: applications wait as for any writer.

    Args:
        halt: who may write it; its `pos` is set.
        patience: seconds to wait for the writers that are at it.

    Raises:
        DatabaseBusy: they did not finish.
        ReadOnly: this node is not the primary.
        OSError: the disk failed.
    """
    deadline = time.monotonic() + patience

    def note(index_header: bytes) -> None:
        if not db.store.writable:
            raise ReadOnly("node is not primary")
        doubt.settle(db, index_header)
        halt.pos = db.pos
        db.halt = halt

    with db.using_live() as live:  # it must stay open
        try:
            with trio.move_on_after(patience) as scope:
                await db.finish()
            if scope.cancelled_caught:
                raise DatabaseBusy(f"{db.name}: an import is going on")
            try:
                await live.hold(note, deadline=deadline)
            except Busy as error:
                raise DatabaseBusy(str(error)) from None
            yield
        finally:
            with trio.CancelScope(shield=True):
                async with db.incoming:  # what is being applied is brought to its end first
                    if db.halt is halt:
                        db.halt = None
                    with suppress(OSError):  # the client process has ended, and its locks with it
                        await live.unhold()
