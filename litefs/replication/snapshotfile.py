"""A consistent view of a database as the bytes of one LTX file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from litefs.errors import StreamError
from litefs.ltx import FLAG_LZ4, Encoder, Header, Pos
from litefs.replication.hold import Hold
from litefs.replication.pipes import Output

if TYPE_CHECKING:
    from litefs.live import Snapshot
    from litefs.store import Database, SnapshotInfo, Store

Write = Callable[[bytes], object]

NOTHING = Pos(0, 0)


def header(store: Store, page_size: int, commit: int, pos: Pos, timestamp: int, *, after: Pos = NOTHING) -> Header:
    """Header of a file that holds a whole database as of `pos`.

    Args:
        after: the position that it extends; none for a snapshot, which can be applied to any.
    """
    return Header(
        page_size=page_size,
        commit=commit,
        min_txid=after.txid + 1,
        max_txid=pos.txid,
        pre_apply=after.checksum,
        flags=FLAG_LZ4 if store.compress else 0,
        timestamp=timestamp,
        node_id=store.node_id,
    )


def encode(snapshot: Snapshot[SnapshotInfo], hold: Hold, head: Header, post_apply: int, write: Write) -> None:
    """Write every page. Runs in a worker; lets go of the snapshot in any case, also when `write` gives up."""
    try:
        encoder = Encoder(Output(write), head)
        for first, pages in snapshot.pages():
            encoder.write_raw_pages(first, pages)
        encoder.finish(post_apply)
    finally:
        hold.end()


async def until_published(store: Store, database: Database, pos: Pos, limit: float) -> None:
    """A snapshot may hold transactions that are not durable here yet: who gets it must not be ahead of us.

    Args:
        limit: seconds to wait.

    Raises:
        StreamError: the last transaction was not published; SQLite has discarded it, perhaps.
    """
    with trio.move_on_after(limit):
        async with store.subscribe({database.name}) as subscription:
            while database.pos.txid >= pos.txid:  # else SQLite discarded it, and it was retracted
                if database.published.txid >= pos.txid:
                    return
                with trio.move_on_after(1):
                    await subscription.wait()
    raise StreamError(f'transaction {pos.txid:016x} of "{database.name}" was not published')
