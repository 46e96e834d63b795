"""Bringing a database to the state that the backup has, while it is in use, and keeping the state it loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from litefs.backup.client import BackupClient, DatabaseRefused
from litefs.errors import LTXError
from litefs.ltx import Pos
from litefs.replication.incoming import Incoming, Received

if TYPE_CHECKING:
    from litefs.store import Database, Store


async def restore(store: Store, client: BackupClient, name: str) -> Pos:
    """Replace a database by the backup's newest state; the new position. Readers stay, writers wait a moment.

    Nothing is changed before all of it has arrived and is verified, and the local state, if it is lost by it, is kept
    as a branch.

    Raises:
        BackupError: the backup did not deliver.
        ReadOnly: this node is no longer the primary.
        StoreError, StreamError, OSError: it cannot be applied here.
    """
    database = await store.database(name, create=True)
    received = await _fetch(client, database)
    try:
        return await _apply(database, received)
    finally:
        received.discard()


async def _fetch(client: BackupClient, database: Database) -> Received:
    incoming = Incoming(database)
    try:
        async with client.snapshot(database.name) as pieces:
            async for piece in pieces:
                await incoming.add(memoryview(piece))
        received = await incoming.finish()
    except LTXError as error:
        raise DatabaseRefused(f'the snapshot of "{database.name}" is not whole: {error}') from error
    finally:
        await incoming.aclose()
    if not received.header.is_snapshot:
        received.discard()
        raise DatabaseRefused(f'no snapshot of "{database.name}" came, but later transactions only')
    return received


async def _apply(database: Database, received: Received) -> Pos:
    path = await trio.to_thread.run_sync(received.write)
    pos = await database.apply_ltx(path, received.header, received.trailer, local=True)
    database.hwm = pos.txid
    return pos
