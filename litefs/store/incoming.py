"""Transactions that do not come from an application of this node: received from the primary, restored, or imported.

They are applied to the mounted database by the client process, which behaves like any other SQLite client
(`litefs.live`). The LTX file gets its final name while the database is locked and before its first page is written: a
crash in between leaves a database that is behind its LTX files, and start-up brings it forward.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from litefs import ltx
from litefs.errors import DatabaseBusy, LTXError, PositionMismatch, ReadOnly
from litefs.live import Busy, PageSet
from litefs.live.client import Client, InlinePages, LTXPages
from litefs.ltx import CHECKSUM_FLAG, MAX_TIME, Header, Pos, Trailer
from litefs.store import doubt
from litefs.store.content import Content
from litefs.store.halt import Halt
from litefs.store.keeping import Keeping
from litefs.store.pagetable import PageTable, xor_of
from litefs.store.publisher import Captured, State
from litefs.store.syncing import sync_directory, sync_file

if TYPE_CHECKING:
    from litefs.store.database import Database

IN_MEMORY = 1 << 20  # bytes: LTX files up to here are decoded in one piece, in the trio thread
MAX_UNWRITTEN = 1 << 20
"""Pages by which a database may grow in a transaction that does not hold them; SQLite skips free ones."""

LOCK_TIMEOUT = 10.0  # seconds that applications may keep a database locked


@dataclass(slots=True)
class Incoming:
    """An LTX file that is about to be applied."""

    path: Path
    header: Header
    trailer: Trailer
    checksums: PageTable | list[tuple[int, int]]  # of its pages; a table when it has them all
    pages: list[tuple[int, bytes]] | None  # None: read them from the file
    local: bool
    halt: Halt | None = None  # by whose right it is written
    temporary: Path | None = None  # where the file lay before it was placed
    content: Content | None = None  # of the whole database

    @property
    def placed(self) -> bool:
        """Whether the file has its name: from then on the transaction counts."""
        return self.temporary is not None

    @property
    def pos(self) -> Pos:
        """Where it leads."""
        return Pos(self.header.max_txid, self.trailer.post_apply)

    def page_set(self) -> PageSet:
        """Its pages for the client process."""
        pages = InlinePages(self.pages) if self.pages is not None else LTXPages(str(self.path))
        return PageSet(self.header.page_size, self.header.commit, pages)


def read(path: Path, header: Header, trailer: Trailer, *, local: bool, halt: Halt | None = None) -> Incoming:
    """Open a complete, verified LTX file. Blocking unless it is small.

    Raises:
        LTXError: it is not whole after all.
    """
    keep = path.stat().st_size <= IN_MEMORY
    pages, checksums = [], []
    with open(path, "rb") as file:
        for pgno, data in ltx.Decoder(file, name=path.name):
            checksums.append((pgno, ltx.page_checksum(pgno, data)))
            if keep:
                pages.append((pgno, bytes(data)))
    return Incoming(path, header, trailer, checksums, pages if keep else None, local, halt)


async def apply(db: Database, incoming: Incoming) -> Pos:
    """Apply an LTX file, see `_apply`."""
    with ExitStack() as arriving:
        return await _apply(db, incoming, arriving)


async def _apply(db: Database, incoming: Incoming, arriving: ExitStack) -> Pos:
    """Apply an LTX file: afterwards the database, its position and its LTX files are those of the transaction.

    The caller holds `db.incoming`.

    Raises:
        PositionMismatch: it does not follow the position, or would not lead where it says.
        ReadOnly: the node's role does not allow it.
        DatabaseBusy: applications kept the database locked, or another node has halted it.
        OSError: the disk failed.
    """
    check(db, incoming)
    head = incoming.header
    ahead = head.is_snapshot or _writes_in_place(head, db.state)
    if ahead or incoming.pages is None:  # a start does not read large files to see whether they are whole
        await trio.to_thread.run_sync(sync_file, incoming.path)
    keeping = Keeping(db, incoming) if head.is_snapshot else None
    writing = db.writer is not None or db.sending is not None
    quick = not (incoming.local or head.is_snapshot or db.publisher.in_doubt or writing)
    if quick:
        place(db, incoming)  # nobody else can move the position of a replica: no need to ask under the lock
        if ahead:
            await _write_ahead(db, incoming)

    async def ask(index_header: bytes) -> str:
        doubt.settle(db, index_header)
        if incoming.local:
            await db.store.gate.passing()
        arriving.enter_context(db.arriving.shut())
        await _place_under_lock(db, incoming, keeping)
        if ahead:
            await _write_ahead(db, incoming)
        elif incoming.local:
            await make_name_durable(db, incoming)
        return str(incoming.path)

    try:
        if keeping is not None:
            await keeping.prepare()
        with db.using_live() as live:
            deadline = time.monotonic() + LOCK_TIMEOUT
            if quick or not await install(db, incoming, live, ask, deadline):
                await live.apply(incoming.page_set(), deadline=deadline, ask=None if quick else ask)
    except Busy as error:
        unplace(db, incoming)
        raise DatabaseBusy(str(error)) from None
    except BaseException:
        if incoming.placed:
            db.unfinished = partial(again, db, incoming)
        raise
    finally:
        if keeping is not None:
            with trio.CancelScope(shield=True):
                await keeping.close()
    settle(db, incoming)
    return incoming.pos


async def install(
    db: Database, incoming: Incoming, live: Client, ask: Callable[[bytes], Awaitable[str]], deadline: float
) -> bool:
    """Put the file with the whole content in the place of one that is empty; False when it is not, nothing is done."""
    content = incoming.content
    if content is None or content.path is None or not db.is_blank:
        return False

    async def before(index_header: bytes) -> str:
        path = await ask(index_header)
        db.replacement = content
        return path

    try:
        size = incoming.header.commit * incoming.header.page_size
        return await live.install(size, deadline=deadline, ask=before)
    finally:
        db.replacement = None


async def _place_under_lock(db: Database, incoming: Incoming, keeping: Keeping | None) -> None:
    """Give the LTX file its name; a snapshot replaces everything, so what is here is kept as a branch before."""
    check(db, incoming)
    if keeping is None:
        move(db, incoming)
        return
    try:
        await keeping.complete()
        place(db, incoming)
    except BaseException:
        keeping.undo()
        raise
    keeping.done()


def _writes_in_place(head: Header, state: State) -> bool:
    """Whether the pages go over those of the database file, or the file goes, with no log that has them."""
    return not state.is_wal or head.page_size != state.page_size or head.commit == 0


async def make_name_durable(db: Database, incoming: Incoming) -> None:
    """What a local transaction is published and answered on. Its content is durable already."""
    try:
        await trio.to_thread.run_sync(sync_directory, db.ltx_dir.path)
    except BaseException:
        unplace(db, incoming)
        raise


async def _write_ahead(db: Database, incoming: Incoming) -> None:
    try:
        await db.disk.write_ahead([incoming.path], incoming.header.max_txid)
    except BaseException:
        unplace(db, incoming)
        raise


async def again(db: Database, incoming: Incoming) -> None:
    """Apply a transaction that was applied half, and counts since its LTX file has its name: all its pages once more.

    Raises:
        DatabaseBusy, OSError: it has to be tried again.
    """
    try:
        with db.using_live() as live:
            await live.apply(incoming.page_set(), deadline=time.monotonic() + LOCK_TIMEOUT)
    except Busy as error:
        raise DatabaseBusy(str(error)) from None
    settle(db, incoming)


def check(db: Database, incoming: Incoming) -> None:
    """Whether the transaction may be applied now.

    Raises:
        PositionMismatch, ReadOnly, DatabaseBusy: see `apply`.
    """
    if db.store.writable is not incoming.local:
        raise ReadOnly("node is not primary" if incoming.local else "node is primary: it takes no transactions")
    if db.halt is not incoming.halt:
        raise DatabaseBusy(f"{db.name}: another node holds the halt lock")
    head, state = incoming.header, db.state
    check_bounds(head, len(incoming.checksums), state)
    if head.is_snapshot:
        return
    if head.pos_before != state.pos:
        raise PositionMismatch(f"position mismatch on db {db.name!r}: {state.pos} here, {head.pos_before} expected")
    if result(incoming, db.table, state) != incoming.trailer.post_apply:
        raise PositionMismatch(
            f"transaction {ltx.format_txid(head.max_txid)} of {db.name!r} does not lead to the checksum it names"
        )


def check_bounds(head: Header, pages: int, state: State) -> None:
    """Whether a transaction stays within what its own size explains; it may come from anyone who has the token.

    The table of page checksums is as long as the database: a few bytes must not be able to make that 2^32 pages.

    Raises:
        LTXError: it does not.
    """
    if head.commit > (0 if head.is_snapshot else state.commit) + pages + MAX_UNWRITTEN:
        raise LTXError(f"a transaction with {pages} pages makes the database {head.commit} pages long")
    if not 0 <= head.timestamp <= MAX_TIME:
        raise LTXError(f"a transaction made at {head.timestamp} ms since the epoch")


def result(incoming: Incoming, table: PageTable, state: State) -> int:
    """Checksum of the database after the transaction."""
    head = incoming.header
    same = head.page_size == state.page_size
    total = state.pos.checksum if same else 0
    for pgno, new in incoming.checksums:
        total ^= new ^ (table.get(pgno) if same and pgno <= state.commit else 0)
    if same and head.commit < state.commit:
        total ^= xor_of(value for pgno, value in table.tail(head.commit) if pgno <= state.commit)
    return CHECKSUM_FLAG | total


def place(db: Database, incoming: Incoming) -> None:
    """Under the database's lock: last checks, then the LTX file gets its name."""
    check(db, incoming)
    move(db, incoming)


def move(db: Database, incoming: Incoming) -> None:
    """Give the LTX file its name."""
    incoming.temporary = incoming.path
    incoming.path = db.ltx_dir.file(incoming.header.min_txid, incoming.header.max_txid)
    os.replace(incoming.temporary, incoming.path)


def unplace(db: Database, incoming: Incoming) -> None:
    """Nothing was written after all."""
    if incoming.temporary is not None:
        db.disk.retracted(db.pos.txid + 1)
        os.replace(incoming.path, incoming.temporary)
        incoming.path, incoming.temporary = incoming.temporary, None


def settle(db: Database, incoming: Incoming) -> None:
    """The pages are in place: move the position and publish it."""
    head, before = incoming.header, db.state
    if isinstance(incoming.checksums, PageTable):
        db.table = incoming.checksums
        db.disk.forget_table()
    else:
        if head.is_snapshot or head.page_size != before.page_size:
            db.table = PageTable()
            db.disk.forget_table()
        db.table.update(incoming.checksums)
    if head.is_snapshot:
        db.begins_at(head.max_txid)
    db.table.truncate(head.commit)
    is_wal = next((data[18] == 2 for pgno, data in incoming.pages or () if pgno == 1), before.is_wal)
    if incoming.content is not None and incoming.content.is_wal is not None:
        is_wal = incoming.content.is_wal
    db.state = State(incoming.pos, head.page_size, head.commit, head.timestamp, is_wal)
    db.ltx_dir.add(head.min_txid, head.max_txid, incoming.path.stat().st_size)
    db.applied(Captured(db.state, before, accepted=True, durable=True))
