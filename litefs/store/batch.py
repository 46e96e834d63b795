"""Small transactions from the primary, applied together: one round through the client process for all that wait.

A replica that is behind catches up many transactions at a time, and readers see the state after the last of them.
Each still has its LTX file, and its position is announced.
"""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

from litefs import ltx
from litefs.errors import DatabaseBusy, LTXError, PositionMismatch, ReadOnly
from litefs.live import Busy, PageSet
from litefs.live.client import InlinePages
from litefs.ltx import CHECKSUM_FLAG, Header, Pos, Trailer
from litefs.store.incoming import LOCK_TIMEOUT, check_bounds
from litefs.store.publisher import Captured, State

if TYPE_CHECKING:
    from litefs.store.database import Database

INLINE = 4  # LTX files written in the trio thread; more go to a worker thread


@dataclass(frozen=True, slots=True)
class Small:
    """A complete, verified LTX file in memory."""

    data: bytes
    header: Header
    trailer: Trailer


@dataclass(slots=True)
class _Plan:
    """What several transactions come to, one after the other."""

    db: Database
    state: State
    items: list[Small] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    pages: dict[int, bytes] = field(default_factory=dict)
    checksums: dict[int, int] = field(default_factory=dict)

    def add(self, item: Small) -> None:
        """One more transaction. Raises `PositionMismatch`."""
        head, before = item.header, self.state
        if head.pos_before != before.pos:
            raise PositionMismatch(
                f"position mismatch on db {self.db.name!r}: {before.pos} here, {head.pos_before} expected"
            )
        pages = [(pgno, bytes(data)) for pgno, data in ltx.Decoder(io.BytesIO(item.data))]
        check_bounds(head, len(pages), before)
        total, new = before.pos.checksum, {}
        is_wal = before.is_wal
        for pgno, data in pages:
            new[pgno] = ltx.page_checksum(pgno, data)
            total ^= new[pgno] ^ (self._old(pgno) if pgno <= before.commit else 0)
            if pgno == 1:
                is_wal = data[18] == 2
        if CHECKSUM_FLAG | total != item.trailer.post_apply:
            raise PositionMismatch(
                f"transaction {ltx.format_txid(head.max_txid)} of {self.db.name!r} does not lead to its checksum"
            )
        self.pages.update(pages)
        self.checksums.update(new)
        pos = Pos(head.max_txid, item.trailer.post_apply)
        self.state = State(pos, head.page_size, head.commit, head.timestamp, is_wal)
        self.items.append(item)
        self.states.append(self.state)

    def _old(self, pgno: int) -> int:
        found = self.checksums.get(pgno)
        return self.db.table.get(pgno) if found is None else found


def fits(item: Header, before: State) -> bool:
    """Whether a transaction can be part of a batch: it writes pages, and neither shrinks nor replaces the database."""
    return not item.is_snapshot and item.page_size == before.page_size and item.commit >= before.commit > 0


async def apply(db: Database, items: Sequence[Small]) -> int:
    """Apply the longest run of transactions from the first on that can be applied together; how many that was.

    0 means that the first one does not fit into a batch. The caller holds `db.incoming`.

    Raises:
        PositionMismatch, LTXError, ReadOnly, DatabaseBusy, OSError: as for one transaction; none was applied.
    """
    if db.store.writable:
        raise ReadOnly("node is primary: it takes no transactions")
    if db.publisher.in_doubt is not None or db.writer is not None or db.sending is not None:
        return 0
    plan = _plan(db, items)
    if not plan.items:
        return 0
    if len(plan.items) <= INLINE:
        _write_files(plan)
    else:
        await trio.to_thread.run_sync(_write_files, plan)
    if not db.state.is_wal:
        await _write_ahead(plan)
    try:
        await _apply_pages(plan)
    except DatabaseBusy:
        _remove_files(plan)
        raise
    except BaseException:
        db.unfinished = partial(_apply_pages, plan)
        raise
    return len(plan.items)


async def _write_ahead(plan: _Plan) -> None:
    try:
        paths = [plan.db.ltx_dir.file(item.header.min_txid, item.header.max_txid) for item in plan.items]
        await plan.db.disk.write_ahead(paths, plan.state.pos.txid)
    except BaseException:
        _remove_files(plan)
        raise


async def _apply_pages(plan: _Plan) -> None:
    changes = PageSet(plan.state.page_size, plan.state.commit, InlinePages(sorted(plan.pages.items())))
    try:
        with plan.db.using_live() as live:
            await live.apply(changes, deadline=time.monotonic() + LOCK_TIMEOUT)
    except Busy as error:
        raise DatabaseBusy(str(error)) from None
    _settle(plan)


def _plan(db: Database, items: Sequence[Small]) -> _Plan:
    plan = _Plan(db, db.state)
    for item in items:
        if not fits(item.header, plan.state):
            break
        try:
            plan.add(item)
        except (PositionMismatch, LTXError):
            if not plan.items:
                raise
            break
    return plan


def _write_files(plan: _Plan) -> None:
    written = 0
    try:
        for item in plan.items:
            path = plan.db.ltx_dir.file(item.header.min_txid, item.header.max_txid)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            written += 1
            with open(fd, "wb", buffering=0) as file:
                if file.write(item.data) != len(item.data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except BaseException:
        _remove_files(plan, written)
        raise


def _remove_files(plan: _Plan, count: int | None = None) -> None:
    plan.db.disk.retracted(plan.db.pos.txid + 1)
    for item in plan.items[:count]:
        plan.db.ltx_dir.file(item.header.min_txid, item.header.max_txid).unlink(missing_ok=True)


def _settle(plan: _Plan) -> None:
    db = plan.db
    db.table.update(plan.checksums.items())
    for item, state in zip(plan.items, plan.states, strict=True):
        before, db.state = db.state, state
        db.ltx_dir.add(item.header.min_txid, item.header.max_txid, len(item.data))
        db.applied(Captured(state, before, accepted=True, durable=True))
