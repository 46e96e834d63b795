"""Capturing transactions of the rollback journal modes (DELETE, TRUNCATE, PERSIST).

While the journal file starts with a valid header, pages written to the database file are the dirty set. The
transaction is captured when the journal is finalised (deleted, truncated, its header zeroed), before that happens.
SQLite syncs the database file just before: the LTX file is written and synced beside it (prepared), so that
finalising only renames it. A rollback puts the old content back, so no checksum changes and there is no transaction.
"""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from litefs import ltx
from litefs.errors import FormatError
from litefs.sqlite import header as dbheader
from litefs.sqlite.journal import HEADER_SIZE, JournalHeader
from litefs.store import transaction
from litefs.store.ltxsync import sync_file
from litefs.store.transaction import Change, PageMap

if TYPE_CHECKING:
    from litefs.store.database import Database

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Prepared:
    """An LTX file that only needs its name."""

    generation: int  # of the dirty set that it holds
    head: ltx.Header
    change: Change
    path: Path
    size: int


class Journal:
    """The rollback journal behind the mount, and the pages written under it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.path = db.path / "journal"
        self.active = False  # the file begins with a valid header
        self._page_size = 0  # bytes, of the database that the journal is for
        self._dirty: set[int] = set()
        self._generation = 0  # moves with every write to the database file
        self._resized = False
        self._prepared: Prepared | None = None
        self._warned = False

    # ----------------------------------------------------------------------------------------- the journal file

    def header_written(self, fd: int) -> None:
        """The journal's first bytes were written; SQLite does so in two steps, the magic number last."""
        try:
            self._page_size = JournalHeader.parse(os.pread(fd, HEADER_SIZE, 0)).page_size
        except FormatError:
            self.active = False
        else:
            self.active = True

    def zeroes_header(self, offset: int, data: bytes) -> bool:
        """Whether this write would finalise the journal."""
        return offset == 0 and self.active and not any(data[:8])

    async def finalise(self) -> None:
        """The journal is about to go: capture what was written under it.

        Raises:
            OSError: the transaction could not be captured; the journal must stay.
        """
        if self.active and (self._dirty or self._resized):
            await self._capture()
        self.active = False
        self._reset()

    def forget(self) -> None:
        """The database is gone."""
        self.active = False
        self._reset()

    def _reset(self) -> None:
        self._dirty.clear()
        self._resized = False
        self._discard_prepared()

    # ---------------------------------------------------------------------------------------- the database file

    def check_write(self, offset: int, data: bytes) -> None:
        """Whether an application's write to the database file may happen; remembers the pages.

        Raises:
            OSError: EIO when it belongs to no transaction; EROFS when this node may not write.
        """
        if not self.active:
            self._check_unjournaled(offset, data)
            return
        page_size = self._page_size
        pages = range(offset // page_size + 1, (offset + len(data) - 1) // page_size + 2)
        if not self._db.store.writable:
            self._check_restoring(pages, data, page_size)
        self._dirty.update(pages)
        self._generation += 1

    def check_truncate(self, size: int) -> None:
        """Whether an application may change the size of the database file.

        Raises:
            OSError: EIO when that would cut off pages and belongs to no transaction.
        """
        if self.active:
            self._resized = True
            self._generation += 1
        elif size < self._db.commit * self._db.page_size:
            self._refuse_unjournaled()

    def _check_unjournaled(self, offset: int, data: bytes) -> None:
        """Without a journal only a checkpoint may write a database; a file that is none yet takes anything else."""
        db = self._db
        if not db.store.writable:
            raise OSError(errno.EROFS, f"{db.name}: this node is not the primary")
        if db.wal.end > 0:
            if offset % db.page_size or len(data) % db.page_size:
                raise OSError(errno.EIO, f"{db.name}: {len(data)} bytes at {offset} are not whole pages")
        elif db.commit or (offset == 0 and data.startswith(dbheader.MAGIC)):
            self._refuse_unjournaled()

    def _refuse_unjournaled(self) -> None:
        if not self._warned:
            self._warned = True
            log.error(
                "%s: refused a write without a rollback journal: journal_mode=OFF and MEMORY cannot be replicated, "
                "use PRAGMA journal_mode=WAL or DELETE; to copy a database into the mount, use `litefs import`",
                self._db.name,
            )
        raise OSError(errno.EIO, f"{self._db.name}: write outside of a transaction")

    def _check_restoring(self, pages: range, data: bytes, page_size: int) -> None:
        """On a node that is not the primary (any more), only a rollback may write."""
        for i, pgno in enumerate(pages):
            page = data[i * page_size : (i + 1) * page_size]
            if ltx.page_checksum(pgno, page) != self._db.table.get(pgno):
                raise OSError(errno.EROFS, f"{self._db.name}: this node is not the primary")

    # ------------------------------------------------------------------------------------------------- capturing

    async def prepare(self) -> None:
        """Beside SQLite's sync of the database file: write and sync the LTX file the journal's end will need.

        A failure is no error here: finalising tries again and reports it.
        """
        if not self.active or not (self._dirty or self._resized) or not self._db.store.writable:
            return
        self._discard_prepared()
        generation = self._generation
        pages = self._page_map()
        if pages is None:
            return
        try:
            prepared = await trio.to_thread.run_sync(self._prepare, generation, pages)
        except OSError as error:
            log.warning("%s: cannot prepare the LTX file: %s", self._db.name, error)
        else:
            self._discard_prepared()
            self._prepared = prepared
        finally:
            os.close(pages[0].fd)

    def _prepare(self, generation: int, source: tuple[PageMap, int]) -> Prepared | None:
        pages, commit = source
        db = self._db
        change = transaction.examine(pages, commit, db.table, db.state)
        if db.is_no_change(change, pages.page_size, commit):
            return None
        head = db.ltx_header(pages.page_size, commit)
        path = db.ltx_dir.temporary()
        if pages.size <= transaction.SMALL:
            size = transaction.write_small(path, head, change)
            sync_file(path)
        else:
            size = transaction.write_large(path, head, change, pages)
        return Prepared(generation, head, change, path, size)

    async def _capture(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None and self._still_good(prepared):
            if not self._db.store.writable:
                prepared.path.unlink(missing_ok=True)
                raise OSError(errno.EROFS, "this node is not the primary")
            os.rename(prepared.path, self._db.ltx_dir.file(prepared.head.min_txid, prepared.head.max_txid))
            self._db.captured(prepared.head, prepared.change, prepared.size, durable=True)
            return
        if prepared is not None:
            prepared.path.unlink(missing_ok=True)
        source = self._page_map()
        if source is not None:
            try:
                await self._db.capture(*source)
            finally:
                os.close(source[0].fd)

    def _still_good(self, prepared: Prepared) -> bool:
        return prepared.generation == self._generation and prepared.head.min_txid == self._db.pos.txid + 1

    def _discard_prepared(self) -> None:
        if self._prepared is not None:
            self._prepared.path.unlink(missing_ok=True)
            self._prepared = None

    def _page_map(self) -> tuple[PageMap, int] | None:
        """The pages that this transaction may have changed, and the size it leaves; None when there is no database.

        The caller closes the descriptor.
        """
        fd = os.open(self._db.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = committed_size(fd)
            if found is None:
                os.close(fd)
                return None
            page_size, commit = found
            state = self._db.state
            if page_size != state.page_size:
                pages = range(1, commit + 1)
                return PageMap(fd, page_size, {pgno: (pgno - 1) * page_size for pgno in pages}), commit
            # Pages that the database grew by without writing them are part of it, too: holes read as zeros.
            wanted = self._dirty | set(range(state.commit + 1, commit + 1))
            return PageMap(fd, page_size, {pgno: (pgno - 1) * page_size for pgno in wanted}), commit
        except BaseException:
            os.close(fd)
            raise


def committed_size(fd: int) -> tuple[int, int] | None:
    """(page size, pages) of a database file, by its header as SQLite reads it; None when it is empty or none."""
    size = os.fstat(fd).st_size
    try:
        head = dbheader.DatabaseHeader.parse(os.pread(fd, 100, 0))
    except FormatError:
        return None
    if head.page_count_valid:
        return head.page_size, head.page_count
    return head.page_size, size // head.page_size
