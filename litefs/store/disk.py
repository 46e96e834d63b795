"""What of a database is on disk for good: its WAL, its LTX files, its table of page checksums."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from litefs.ltx import Pos
from litefs.store import pagetable
from litefs.store.pagetable import Stamp
from litefs.store.syncing import SyncFailed, sync_fd, sync_file, sync_files

if TYPE_CHECKING:
    from litefs.store.database import Database

log = logging.getLogger(__name__)

MARK = "unsynced"  # file in the database's directory: a sync has failed


class Disk:
    """Makes one database durable, and knows how far it is.

    A sync that failed is never made good by a later one (`SyncFailed`). After it nothing of this database is made
    durable, committed or published any more, until recovery has read from the disk itself what is there: a mark tells
    it to. The mark need not survive a power failure, which takes the kernel's memory with it.

    Attributes:
        durable: TXID up to which the LTX files are durable.
        failed: whether a sync of the database file, the WAL or the LTX files has failed.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self.durable = 0
        self.failed = False
        self._flush = trio.Lock()
        self._stamp = Stamp(0, 0, Pos(0, 0))  # what the saved page table is true for

    def recovered(self, txid: int, stamp: Stamp) -> None:
        """Recovery found everything durable up to a TXID, and a page table that was saved at `stamp`."""
        self.durable, self._stamp = txid, stamp

    # ---------------------------------------------------------------------------------------------------- failures

    def check(self) -> None:
        """Whether anything can still be made durable.

        Raises:
            OSError: EIO when not.
        """
        if self.failed:
            raise OSError(errno.EIO, f"{self._db.name}: its disk has failed before, see the log; start the node again")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A context in which files of the database are synced; a failure is remembered."""
        try:
            yield
        except SyncFailed as error:
            self._sync_failed(error)
            raise

    def _sync_failed(self, error: SyncFailed) -> None:
        if self.failed:
            return
        self.failed = True
        log.error(
            "%s: the disk has failed to store what was written: %s; commits are refused from now on. Look at the disk, "
            "then start the node again: it goes on from what the disk really has",
            self._db.name, error.strerror,
        )  # fmt: skip
        try:
            mark(self._db.path)
        except OSError as problem:
            log.warning("%s: cannot leave a mark for the next start: %s", self._db.name, problem)

    async def sync(self, fd: int) -> None:
        """Make one of the database's files durable.

        SQLite writes over a database only once this has come back for the journal that undoes it. After a failure that
        must never be: what is written once more to where it happened seems durable, and may still not be (ext4).

        Raises:
            OSError: the disk failed, now or before.
        """
        await self._run(sync_fd, fd)

    async def _run(self, sync: Callable[..., None], *args: object) -> None:
        self.check()
        with self.watching():
            await trio.to_thread.run_sync(sync, *args)
        self.check()  # another one may have been told meanwhile

    # ----------------------------------------------------------------------------------------------- transactions

    @property
    def undurable(self) -> int:
        """Number of LTX files not known to be durable."""
        return self._db.pos.txid - self.durable

    async def sync_wal(self, fd: int = -1) -> None:
        """Make the WAL durable, and with it every transaction captured from it so far.

        Args:
            fd: by which descriptor. Of an error each one is told once, whoever synced by others: so applications sync
                by their own.

        Raises:
            OSError: the disk failed, now or before.
        """
        wal = self._db.wal
        if wal.holed:
            await self.flush()
        txid = self._db.pos.txid
        fd = os.dup(wal.fd if fd < 0 else fd)
        try:
            await self.sync(fd)
        finally:
            os.close(fd)
        self._db.publisher.made_durable(txid)

    async def flush(self) -> None:
        """Make every LTX file durable: what they were made from is about to be overwritten.

        Raises:
            OSError: the disk failed, now or before.
        """
        db = self._db
        async with self._flush:
            self.check()
            txid = db.pos.txid
            if txid > self.durable:
                paths = [db.ltx_dir.file(n, n) for n in range(self.durable + 1, txid + 1)]
                await self._run(sync_files, db.ltx_dir.path, paths)
                self.durable = max(self.durable, min(txid, db.pos.txid))
            db.publisher.made_durable(txid)

    async def write_ahead(self, paths: Sequence[Path], txid: int) -> None:
        """Make LTX files durable whose pages are about to be written over those of the database file.

        No log has them: what power failure leaves of the database file is whole only with these files.

        Args:
            paths: the files, which have their names and lead on from the position.
            txid: of the last one. When nothing is written after all, see `retracted`.

        Raises:
            OSError: the disk failed.
        """
        await self.flush()
        await self._run(sync_files, self._db.ltx_dir.path, paths)
        self.durable = max(self.durable, txid)

    def retracted(self, txid: int) -> None:
        """The newest LTX file is gone, and its number will be used again."""
        self.durable = min(self.durable, txid - 1)

    def begins_at(self, txid: int) -> None:
        """A durable snapshot has replaced everything: of what was captured before, no file needs to be synced."""
        self.durable = txid
        self._db.publisher.made_durable(self._db.pos.txid)

    # ------------------------------------------------------------------------------------------------- page table

    @property
    def saved(self) -> Pos:
        """Position of the saved page table: LTX files after it are needed at start-up."""
        return self._stamp.pos

    async def save_table(self) -> None:
        """Bring the file with the page checksums up to date, so that the next start has less to replay.

        Raises:
            OSError: the disk failed.
        """
        db = self._db
        if db.published == self._stamp.pos or not self._settled:
            return
        # What comes meanwhile is not on disk: the stamp is of now. Entries of the table that are newer do no harm.
        stamp, history = Stamp(db.state.page_size, db.state.commit, db.state.pos), db.trail.replaced
        await self.flush()
        with self.watching():
            await self._sync_content()
        if not self._settled or db.state.page_size != stamp.page_size or db.trail.replaced is not history:
            return  # next time
        blocks = db.table.take_changes(stamp.commit, whole=self._stamp.page_size != stamp.page_size)
        try:
            await trio.to_thread.run_sync(pagetable.save, db.path / "checksums", stamp, blocks)
        except OSError:
            self._stamp = Stamp(0, 0, self._stamp.pos)  # which blocks are missing is not known: save all next time
            raise
        self._stamp = stamp

    def forget_table(self) -> None:
        """The saved page table is of another history: save all of it next time."""
        self._stamp = Stamp(0, 0, Pos(0, 0))

    async def _sync_content(self) -> None:
        """Make the database file and the WAL durable: start-up looks only at pages that later transactions touch."""
        for path in (self._db.file, self._db.wal.path):
            await trio.to_thread.run_sync(sync_file, path)

    @property
    def _settled(self) -> bool:
        db = self._db
        return db.published == db.pos and not self._flush.locked() and not db.wal.holed and not self.failed


def mark(path: Path) -> None:
    """Have recovery read the files in a database's directory from the disk. Raises OSError."""
    os.close(os.open(path / MARK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
