"""Capturing transactions of the rollback journal modes (DELETE, TRUNCATE, PERSIST).

While the journal file starts with a valid header, pages written to the database file are the dirty set. The
transaction is captured when the journal is finalised (deleted, truncated, its header zeroed), before that happens.
SQLite syncs the database file just before: the LTX file is written and synced beside it (prepared), so that
finalising only renames it. A rollback puts the old content back, so no checksum changes and there is no transaction.

Writes without a journal have no commit point. What happens to them depends on what is there:
- A file that is no database yet (new, or deleted before) may be filled by any program. When the last descriptor that
  wrote it is closed and it holds a whole SQLite database, that becomes one transaction: so `cp` imports. Programs that
  copy open a file for writing only, or have it truncated; SQLite does neither. What SQLite writes to a new database
  without a journal is refused as below.
- A database in WAL mode takes pages that its WAL holds: a checkpoint.
- Any other database refuses them. Where the store is told to capture them, they are captured when the file is synced
  or closed by the one who wrote them, or with the next transaction.
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
from litefs.sqlite.header import MAGIC
from litefs.sqlite.journal import HEADER_SIZE, JournalHeader
from litefs.store import capturing, position, transaction, writethrough
from litefs.store.sqlitefile import committed_size, is_complete
from litefs.store.syncing import sync_file
from litefs.store.transaction import Change, InPlace, PageMap

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
        self._spare = db.path / "journal.tmp"  # as all such files, it goes when the node starts
        self.active = False  # the file begins with a valid header
        self._page_size = 0  # bytes, of the database that the journal is for
        self._dirty: set[int] = set()
        self._generation = 0  # moves with every write to the database file
        self._resized = False
        self._prepared: Prepared | None = None
        self._warned = False
        self._filled = False  # written by other means than SQLite's, and no database yet
        self._settling = trio.Lock()
        self.writers = 0  # open descriptors that wrote without a journal

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
            OSError: the transaction could not be captured, or nobody knows any more what the disk has of it or of its
                rollback; the journal must stay.
        """
        if self._dirty or self._resized:
            self._db.disk.check()
            await self._capture()
        self.active = False
        self._reset()

    def forget(self) -> None:
        """The database is gone."""
        self.active = self._filled = False
        self._reset()

    def _reset(self) -> None:
        self._dirty.clear()
        self._resized = False
        self._filled = self._filled and not self._db.commit
        self._discard_prepared()

    def create(self) -> None:
        """Make the (empty) file; one that exists is kept."""
        if self._spare.exists() and not self.path.exists():
            os.truncate(self._spare, 0)
            os.rename(self._spare, self.path)
        else:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._db.directory_changed()

    def remove(self, *, in_use: bool) -> None:
        """Delete the file; one that nobody has open is kept under another name for the next transaction.

        With every commit a file deleted and one made can cost more than all the rest. What is kept is emptied, so that
        it can never be taken for the next transaction's journal.
        """
        if in_use:
            os.unlink(self.path)
        else:
            os.rename(self.path, self._spare)
            os.truncate(self._spare, 0)
        self._db.directory_changed()

    def sync_spare(self) -> None:
        """Make it durable that the spare file is empty. Blocking."""
        sync_file(self._spare)

    def remove_spare(self) -> None:
        """The database is gone."""
        self._spare.unlink(missing_ok=True)

    # ---------------------------------------------------------------------------------------- the database file

    def check_write(self, offset: int, data: bytes, *, copying: bool = False) -> bool:
        """Whether an application's write to the database file may happen; remembers the pages.

        Args:
            copying: the file was opened as SQLite never does.

        Returns:
            whether the write is outside of any transaction: `settle` must be called once the writer is done.

        Raises:
            OSError: EIO when it belongs to no transaction; EROFS when this node may not write.
        """
        if not self.active:
            return self._check_unjournaled(offset, data, copying)
        pages = _pages(offset, len(data), self._page_size)
        if not self._db.writable:
            self._check_restoring(pages, data, self._page_size)
        self._touch(pages)
        return False

    def _touch(self, pages: range) -> None:
        self._dirty.update(pages)
        self._generation += 1

    def check_truncate(self, size: int) -> bool:
        """Whether an application may change the size of the database file; the result is that of `check_write`.

        Raises:
            OSError: EIO when that would cut off pages and belongs to no transaction.
        """
        unjournaled = not self.active and size < self._db.commit * self._db.page_size
        if unjournaled and not self._db.store.capture_unjournaled:
            self._refuse_unjournaled()
        if self.active or unjournaled:
            self._resized = True
            self._generation += 1
        return unjournaled

    def _check_unjournaled(self, offset: int, data: bytes, copying: bool) -> bool:
        db = self._db
        capture = db.store.capture_unjournaled
        if not db.writable:
            text = f"{db.name}: this node is not the primary"
            # With a WAL it is only the checkpoint of one who leaves.
            raise db.store.refusal(errno.EROFS, text) if db.wal.end == 0 else OSError(errno.EROFS, text)
        if db.wal.end > 0:
            self._check_checkpoint(offset, data)
            return False
        if db.commit == 0:
            if offset == 0 and data.startswith(MAGIC) and not (copying or capture):
                self._refuse_unjournaled()
            self._filled = True
        elif capture:
            self._touch(_pages(offset, len(data), db.page_size))
        else:
            self._refuse_unjournaled()
        return True

    def _check_checkpoint(self, offset: int, data: bytes) -> None:
        db = self._db
        if offset % db.page_size or len(data) % db.page_size:
            raise OSError(errno.EIO, f"{db.name}: {len(data)} bytes at {offset} are not whole pages")
        pages = _pages(offset, len(data), db.page_size)
        if not db.wal.is_checkpoint(pages):
            self._refuse_unjournaled()
        db.wal.checkpointed(pages, data)

    def _refuse_unjournaled(self) -> None:
        if not self._warned:
            self._warned = True
            log.error(
                "%s: refused a write without a rollback journal: journal_mode=OFF and MEMORY cannot be replicated, "
                "use PRAGMA journal_mode=WAL or DELETE; to replace a database by another one, use `litefs import`",
                self._db.name,
            )
        raise OSError(errno.EIO, f"{self._db.name}: write outside of a transaction")

    def _check_restoring(self, pages: range, data: bytes, page_size: int) -> None:
        """On a node that is not the primary (any more), only a rollback may write."""
        for i, pgno in enumerate(pages):
            page = data[i * page_size : (i + 1) * page_size]
            if ltx.page_checksum(pgno, page) != self._db.table.get(pgno):
                raise self._db.store.refusal(errno.EROFS, f"{self._db.name}: this node is not the primary")

    # ------------------------------------------------------------------------------- written without a journal

    @property
    def unsettled(self) -> bool:
        """Whether something was written outside of any transaction that `settle` may capture."""
        return not self.active and (self._filled or bool(self._dirty) or self._resized)

    async def settle(self) -> None:
        """Capture what was written without a journal, or make the file a database that a program has filled.

        Raises:
            OSError: it could not be captured; it will be tried again.
        """
        async with self._settling:
            if not self.unsettled:
                return
            if self._db.commit == 0:
                await self._adopt()
            else:
                await self._capture()
                self._reset()

    async def _adopt(self) -> None:
        db = self._db
        fd = os.open(db.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            complete = is_complete(fd)
            broken = not complete and os.pread(fd, len(MAGIC), 0) == MAGIC
        finally:
            os.close(fd)
        if complete:
            await db.wal.adopt()
            self._reset()
            log.info("%s: a database of %d pages was copied here; it is at %s", db.name, db.commit, db.pos)
        elif broken:
            log.warning("%s: this is only a part of a database: it is not replicated", db.name)

    # ------------------------------------------------------------------------------------------------- capturing

    async def prepare(self) -> None:
        """Beside SQLite's sync of the database file: write and sync the LTX file the journal's end will need.

        A failure is no error here: finalising tries again and reports it.
        """
        if not self.active or not (self._dirty or self._resized) or not self._db.writable:
            return
        await self._db.arriving.passing()
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
        if capturing.is_no_change(db, change, pages.page_size, commit):
            return None
        head = capturing.next_header(db, pages.page_size, commit)
        path = db.ltx_dir.temporary()
        if pages.size <= transaction.SMALL:
            size = transaction.write_small(path, head, change)
            try:
                sync_file(path)
            except BaseException:
                path.unlink()
                raise
        else:
            size = transaction.write_large(path, head, change, pages)
        return Prepared(generation, head, change, path, size)

    async def _capture(self) -> None:
        await self._db.arriving.passing()
        await self._db.store.gate.passing()
        prepared, self._prepared = self._prepared, None
        if prepared is not None and self._still_good(prepared):
            if self._db.writes_through:
                await writethrough.commit(self._db, prepared.head, prepared.change, prepared.path, prepared.size)
                return
            try:
                self._db.check_writable()
            except OSError:
                prepared.path.unlink(missing_ok=True)
                raise
            os.rename(prepared.path, self._db.ltx_dir.file(prepared.head.min_txid, prepared.head.max_txid))
            # Its bytes are durable, but its name only with the directory: published once that is, too.
            position.advance(self._db, prepared.head, prepared.change, prepared.size)
            return
        if prepared is not None:
            prepared.path.unlink(missing_ok=True)
        source = self._page_map()
        if source is not None:
            try:
                await capturing.capture(self._db, *source)
            finally:
                os.close(source[0].fd)
        elif self._db.commit and not os.path.getsize(self._db.file):
            await capturing.capture_deletion(self._db)

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
                return PageMap(fd, page_size, InPlace(range(1, commit + 1), page_size)), commit
            # Pages that the database grew by without writing them are part of it, too: holes read as zeros.
            wanted = self._dirty | set(range(state.commit + 1, commit + 1))
            return PageMap(fd, page_size, InPlace(wanted, page_size)), commit
        except BaseException:
            os.close(fd)
            raise


def _pages(offset: int, length: int, page_size: int) -> range:
    return range(offset // page_size + 1, (offset + length - 1) // page_size + 2)
