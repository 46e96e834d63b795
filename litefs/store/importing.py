"""A SQLite file that takes a database's place, as one transaction: its LTX file is made here, then it is applied."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from litefs import ltx
from litefs.errors import DatabaseBusy, ReadOnly
from litefs.live import Busy
from litefs.ltx import Header, Pos
from litefs.store import doubt, sqlitefile
from litefs.store.content import Content
from litefs.store.incoming import LOCK_TIMEOUT, Incoming, again, install, make_name_durable, move, settle
from litefs.store.syncing import sync_directory

if TYPE_CHECKING:
    from litefs.store.database import Database


def build_import(db: Database, source: Path) -> Incoming:
    """The LTX file that replaces the database by a SQLite file. Blocking.

    Raises:
        FormatError: it is not a SQLite database.
        OSError: the disk failed.
    """
    path = db.ltx_dir.temporary()
    state = db.state
    try:
        with open(source, "rb") as file, open(path, "wb", buffering=0) as raw:
            reader = sqlitefile.Reader(file, fresh=state.pos)
            txid = state.pos.txid + 1
            head = Header(
                flags=0,  # LZ4 takes longer than everything else together, and the file is soon dropped
                page_size=reader.page_size,
                commit=reader.commit,
                min_txid=txid,
                max_txid=txid,
                timestamp=max(time.time_ns() // 1_000_000, state.timestamp),
                pre_apply=state.pos.checksum if txid > 1 else 0,
                wal_offset=0,
                wal_size=0,
                salt1=0,
                salt2=0,
                node_id=db.store.node_id,
            )
            encoder = ltx.Encoder(raw, head)
            for first, data in reader:
                encoder.write_raw_pages(first, data)
            trailer = encoder.finish(reader.table.checksum(reader.page_size, reader.commit))
            os.fdatasync(raw.fileno())
        sync_directory(path.parent)
        content = Content.adopt(source, db.path, reader.head) if db.is_blank else Content(None)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    content.table, content.is_wal = reader.table, reader.is_wal
    return Incoming(path, head, trailer, reader.table, None, local=True, content=content)


class _Moved(Exception):
    """Somebody has made a database meanwhile."""


class _Import:
    """One import, from when its transaction was first made until the client process has written it.

    Args:
        incoming: the transaction as it follows the position that was here at first.
        arriving: holds the database's gate shut once the transaction has its place.
    """

    def __init__(self, db: Database, source: Path, incoming: Incoming, arriving: ExitStack) -> None:
        self.incoming = incoming
        self._first = incoming
        self._db = db
        self._source = source
        self._arriving = arriving

    async def apply(self) -> None:
        """Raises FormatError, ReadOnly, DatabaseBusy, Busy, OSError; see `give_up`."""
        deadline = time.monotonic() + LOCK_TIMEOUT
        with self._db.using_live() as live:
            try:
                done = await install(self._db, self._first, live, self._ask_first, deadline)
            except _Moved:
                done = False
            if not done:
                await live.apply(self._first.page_set(), deadline=deadline, ask=self._ask)

    async def _ask_first(self, index_header: bytes) -> str:
        if self._first.header.min_txid != self._db.pos.txid + 1:
            raise _Moved
        return await self._ask(index_header)

    async def _ask(self, index_header: bytes) -> str:
        """The client process has the database's lock: the transaction gets its place; where its file is."""
        db = self._db
        doubt.settle(db, index_header)
        if self.incoming.header.min_txid != db.pos.txid + 1:
            self.incoming.path.unlink()  # applications went on writing meanwhile; now they wait
            self.incoming = await trio.to_thread.run_sync(build_import, db, self._source)
        await db.store.gate.passing()
        if not db.store.writable:
            raise ReadOnly("node is not primary")
        if db.halt is not None:
            raise DatabaseBusy(f"{db.name}: another node holds the halt lock")
        self._arriving.enter_context(db.arriving.shut())
        move(db, self.incoming)
        await make_name_durable(db, self.incoming)
        return str(self.incoming.path)

    def give_up(self) -> None:
        """It failed: nothing is left of it, unless it counts already and has to be finished later."""
        if self.incoming.placed:
            self._db.unfinished = partial(again, self._db, self.incoming)
        else:
            self.incoming.path.unlink(missing_ok=True)


async def import_database(db: Database, source: Path) -> Pos:
    """Replace the database by a SQLite file, as one transaction. The caller holds `db.incoming`.

    Raises:
        FormatError, ReadOnly, DatabaseBusy, OSError: nothing has changed.
    """
    if not db.store.writable:
        raise ReadOnly("node is not primary")
    incoming = await trio.to_thread.run_sync(build_import, db, source)
    with ExitStack() as arriving:
        work = _Import(db, source, incoming, arriving)
        try:
            await work.apply()
        except BaseException as error:
            work.give_up()
            if isinstance(error, Busy):
                raise DatabaseBusy(str(error)) from None
            raise
        finally:
            if incoming.content is not None:
                incoming.content.discard()
        settle(db, work.incoming)
    if not db.store.writable:
        raise ReadOnly("the lease ran out during the import: the next primary's content will replace it")
    return db.pos
