"""Keeping a branch while a snapshot takes its place.

The copy of the database is made before, with no lock held; where applications write meanwhile (a backup is restored on
the primary) the LTX files lead on from it. What it holds and the LTX files that are moved to it together are
everything this node had.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from litefs import ltx
from litefs.errors import CorruptDatabase, LTXError
from litefs.ltx import EMPTY
from litefs.store import branches, nodeids
from litefs.store.branches import Branch, Reason
from litefs.store.ltxdir import Range

if TYPE_CHECKING:
    from litefs.store.database import Database
    from litefs.store.incoming import Incoming

log = logging.getLogger(__name__)

SMALL = 64 << 20  # bytes of a database that is copied even though the primary most likely has all of it
BATCH = 1 << 20  # bytes copied at once

Batches = Iterator[tuple[int, bytes]]


class Keeping:
    """One branch, from the moment a snapshot has arrived until it has taken over.

    Call `prepare`, then under the database's lock `complete` and, when the snapshot's LTX file has its name, `done`; or
    `undo`, where it does not get that. `close` in the end, however it went.
    """

    def __init__(self, db: Database, incoming: Incoming) -> None:
        self._db = db
        self._incoming = incoming
        self._branch: Branch | None = None
        self._ranges: list[Range] = []

    async def prepare(self) -> None:
        """Copy the database, if it is worth it.

        Raises:
            DatabaseBusy, OSError: it cannot be kept now.
        """
        db = self._db
        if not db.pos.txid or db.pos == self._incoming.pos:
            return  # nothing is lost
        reason = await trio.to_thread.run_sync(self._reason)
        self._branch = await trio.to_thread.run_sync(branches.begin, db.store.data_dir, self._describe(reason))
        if await trio.to_thread.run_sync(self._wants_copy, reason):
            await self._copy()

    def _reason(self) -> Reason:
        here, there = self._db.pos, self._incoming.pos
        if self._incoming.local:
            return Reason.RESTORED
        if here.txid >= there.txid:
            return Reason.DIVERGED
        newest = self._db.ltx_dir.newest()
        if newest is not None:
            with suppress(OSError, LTXError), open(self._db.ltx_dir.file(*newest), "rb") as file:
                head, _ = ltx.read_info(file)
                if head.node_id in nodeids.known(self._db.store.data_dir):
                    return Reason.UNCONFIRMED
        return Reason.SUPERSEDED

    def _describe(self, reason: Reason) -> Branch:
        db, store = self._db, self._db.store
        return Branch(
            database=db.name,
            reason=reason.value,
            time=branches.now(),
            tip_time=branches.stamp(db.timestamp),
            replaced_by=str(self._incoming.pos),
            replaced_by_node=f"{self._incoming.header.node_id:016X}",
            node=f"{store.node_id:016X}",
            hostname=os.uname().nodename,
            cluster_id=store.cluster_id,
        )

    def _wants_copy(self, reason: Reason) -> bool:
        """Whether to copy the database: unless its LTX files make it, or it costs more than it can be worth."""
        db = self._db
        size = db.commit * db.page_size
        if db.pos.checksum == EMPTY or self._is_complete():
            return False
        if reason is Reason.SUPERSEDED and size > SMALL:
            return False
        disk = os.statvfs(db.store.data_dir)
        if disk.f_bavail * disk.f_frsize < 2 * size:
            if reason is Reason.RESTORED:
                raise OSError(errno.ENOSPC, f"no room to keep the state of {db.name} that the backup would replace")
            log.warning("%s: the disk has no room for a copy of the branch that is replaced", db.name)
            return False
        return True

    def _is_complete(self) -> bool:
        return self._db.ltx_dir.since(0) is not None

    async def _copy(self) -> None:
        assert self._branch is not None
        async with self._db.snapshot() as snapshot:
            batches = snapshot.pages(max(1, BATCH // snapshot.page_size))
            try:
                await trio.to_thread.run_sync(_write, self._branch.copy, batches)
            except CorruptDatabase as error:
                log.warning("%s: cannot copy the branch that is replaced: %s", self._db.name, error)
                self._branch.copy.unlink(missing_ok=True)
                return
            self._branch = replace(self._branch, base=str(snapshot.noted.pos))

    async def complete(self) -> None:
        """Publish the branch, with the LTX files that have been here so far. The position does not move any more.

        Raises:
            OSError: the disk refused; `undo` puts back what was moved.
        """
        db = self._db
        self._ranges = db.ltx_dir.ranges()
        if self._branch is not None:
            self._branch = replace(
                self._branch,
                tip=str(db.pos),
                page_size=db.page_size,
                pages=db.commit,
                changed_pages=await trio.to_thread.run_sync(self._changed),
            )
            await trio.to_thread.run_sync(self._move)

    def _changed(self) -> int:
        """Pages of the tip that the snapshot has not, or otherwise."""
        table, head = self._db.table, self._incoming.header
        if head.page_size != self._db.page_size:
            return self._db.commit
        same = sum(pgno <= self._db.commit and table.get(pgno) == new for pgno, new in self._incoming.checksums)
        return max(0, self._db.commit - same)

    def _move(self) -> None:
        assert self._branch is not None
        last = self._db.pos.txid
        first = min((low for low, _ in self._ranges), default=last)
        self._branch = branches.publish(self._branch, first, last)
        newest = self._db.ltx_dir.newest()
        for item in self._ranges:
            here, there = self._db.ltx_dir.file(*item), self._branch.path / ltx.filename(*item)
            with suppress(FileNotFoundError):  # retention was faster
                if item == newest:
                    _link(here, there)  # a crash must still find out where the database is
                else:
                    os.rename(here, there)

    def undo(self) -> None:
        """The snapshot may not be applied after all: everything goes back. Blocking, but it hardly ever happens."""
        if self._branch is not None:
            for item in self._ranges:
                with suppress(FileNotFoundError):
                    os.rename(self._branch.path / ltx.filename(*item), self._db.ltx_dir.file(*item))
            branches.abandon(self._branch)
        self._branch, self._ranges = None, []

    def done(self) -> None:
        """The snapshot's LTX file has its name, no page is written yet: from now on it says where the database is."""
        if self._branch is not None and (newest := self._db.ltx_dir.newest()) is not None:
            self._remove(newest)
        for item in self._ranges:
            self._db.ltx_dir.forget(item)
        if self._branch is not None:
            report(self._branch)

    async def close(self) -> None:
        """Remove what is left over: old files that were not kept, a branch that was not completed."""
        await trio.to_thread.run_sync(self._clean)

    def _clean(self) -> None:
        if self._branch is not None and not self._branch.tip:
            branches.abandon(self._branch)
        if self._branch is None:
            for item in self._ranges:
                self._remove(item)

    def _remove(self, item: Range) -> None:
        """Delete an old file, unless the snapshot has taken its name: an older one of as many transactions had it."""
        path = self._db.ltx_dir.file(*item)
        if path != self._incoming.path:
            path.unlink(missing_ok=True)


def _link(here: Path, there: Path) -> None:
    try:
        os.link(here, there)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        os.rename(here, there)


def report(branch: Branch) -> None:
    """One line in the log about a branch that was kept."""
    level = logging.INFO if branch.reason == Reason.SUPERSEDED else logging.WARNING
    source = "backup" if branch.reason == Reason.RESTORED else "primary"
    text = "%s: replaced by the %s's %s; what was here, %s at %s, is kept as branch %s (litefs branches list)"
    log.log(level, text, branch.database, source, branch.replaced_by, branch.reason, branch.tip, branch.name)


def _write(path: Path, batches: Batches) -> None:
    with open(path, "xb", buffering=0) as file:
        for _, data in batches:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        os.fdatasync(file.fileno())
