"""One database of this node: where it is, what is on its way, and the files behind the mount.

All state changes happen in the trio thread. Work that grows with a transaction's size is done in worker threads
while the one who caused it waits, holding SQLite's own write lock; nothing else can change the database meanwhile.
"""

from __future__ import annotations

import errno
import functools
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from litefs import ltx
from litefs.errors import DatabaseBusy
from litefs.live import Busy, Snapshot, indexwatch
from litefs.live.client import Client
from litefs.ltx import EMPTY, Pos
from litefs.store import batch, incoming, pagetable, transaction, writethrough
from litefs.store.batch import Small
from litefs.store.content import Content, OpenFile, temporary
from litefs.store.counters import Counters
from litefs.store.events import TxEvent
from litefs.store.gate import Gate
from litefs.store.halt import Halt
from litefs.store.incoming import Incoming
from litefs.store.journal import Journal
from litefs.store.ltxdir import LTXDir
from litefs.store.ltxsync import sync_directory, sync_file, sync_files
from litefs.store.pagetable import PageTable, Stamp
from litefs.store.publisher import Captured, Publisher, State
from litefs.store.trail import Trail
from litefs.store.transaction import NO_WAL, Change, PageMap, WALPart
from litefs.store.wal import WAL
from litefs.store.writethrough import Sending, Writer

if TYPE_CHECKING:
    from litefs.store.store import Store

log = logging.getLogger(__name__)

RESOLVE_LIMIT = 0.2  # seconds to get the write lock of a database whose last writer seems to be dead
PRIME_STEP = 256 << 10  # bytes that a WAL must have grown by for being read into the cache again
CHECKPOINT_SIZE = 4 << 20  # bytes appended to a replica's WAL, after which it is folded


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What a snapshot is of."""

    pos: Pos
    timestamp: int  # ms since the epoch


class Database:
    """A database that has been recovered and may be open.

    Attributes:
        pos: position of the newest captured transaction; what ``NAME-pos`` shows.
        published: position that streams, backups and events have reached; never ahead of `pos`.
        hwm: high-water mark, the TXID up to which a backup holds the database; 0 = none.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name
        self.path: Path = store.database_path(name)
        self.file = self.path / "database"
        self.ltx_dir = LTXDir(self.path / "ltx")
        self.table = PageTable()
        self.state = State()
        self.published = Pos(0, 0)
        self.hwm = 0
        self.counters = Counters()
        self.publisher = Publisher(self._publish)
        self.wal = WAL(self)
        self.journal = Journal(self)
        self.shm: int | None = None  # memory file of the wal-index while one is in use
        self.shm_users = 0  # open handles of applications on it
        self.incoming = trio.Lock()  # one apply or import at a time
        self.arriving = Gate()  # closed while a transaction from elsewhere has its LTX file and not yet its position
        self.live = Client(store.client, str(store.mount_dir / name))
        self.live_used = -math.inf  # trio time of the last use of `live`; inf while it is in use
        self.halt: Halt | None = None  # another node is the only writer
        self.writer: Writer | None = None  # the halt lock of the primary, while applications here hold it
        self.sending: Sending | None = None  # the transaction that is with the primary
        self.unfinished: Callable[[], Awaitable[None]] | None = None  # brings a half applied transaction to its end
        self.moved = trio.Event()  # set, and replaced, whenever `pos` moves
        self._trail: Trail | None = None
        self.durable_by_fsync = False  # the writer syncs the WAL itself (synchronous=FULL)
        self._synced = 0  # TXID up to which the LTX files are durable
        self._flush = trio.Lock()
        self.open_files: set[OpenFile] = set()  # of the mount, on the database file
        self.replacement: Content | None = None  # takes the place of the empty file when that grows
        self._primed = 0  # bytes of the WAL that the kernel has in its cache for good
        self._live_users = 0
        self._appended = 0  # bytes that the daemon wrote to the WAL since the last checkpoint
        self._stamp = Stamp(0, 0, Pos(0, 0))  # what the saved page table is true for

    # --------------------------------------------------------------------------------------------------- where

    @property
    def pos(self) -> Pos:
        """Position of the newest captured transaction."""
        return self.state.pos

    @property
    def page_size(self) -> int:
        """Bytes; 0 before the first transaction."""
        return self.state.page_size

    @property
    def commit(self) -> int:
        """Size of the database in pages."""
        return self.state.commit

    @property
    def timestamp(self) -> int:
        """When the newest transaction was made: ms since the epoch, 0 for none."""
        return self.state.timestamp

    @property
    def writable(self) -> bool:
        """Whether applications on this node may change it."""
        return self.store.writable or (self.writer is not None and self.writer.valid)

    @property
    def writes_through(self) -> bool:
        """Whether what applications write goes to the primary first."""
        return self.writer is not None and not self.store.writable

    @property
    def exists(self) -> bool:
        """Whether there is a database file (it may be empty)."""
        return self.file.exists()

    @property
    def saved(self) -> Pos:
        """Position of the saved page table: LTX files after it are needed at start-up."""
        return self._stamp.pos

    def recovered(self, state: State, table: PageTable, stamp: Stamp) -> None:
        """Recovery found the database in this state, everything in it committed and durable."""
        self.state, self.table, self._stamp = state, table, stamp
        self.published = state.pos
        self._synced = state.pos.txid
        self.wal.load()

    # ------------------------------------------------------------------------------------------------ capturing

    async def capture(
        self, pages: PageMap, commit: int, part: WALPart = NO_WAL, frames: tuple[int, int] = (0, 0)
    ) -> None:
        """Capture a transaction: after this it has an LTX file. No transaction when nothing changes.

        Args:
            pages: every page it may have changed; the whole database when the page size changes.
            commit: size of the database afterwards, in pages.
            part: its bytes in the WAL.
            frames: frames of the WAL before and up to it.

        Raises:
            OSError: EROFS when this node may not write, or what the disk says; nothing was captured.
        """
        await self.arriving.passing()
        if pages.size <= transaction.SMALL:
            change = transaction.examine(pages, commit, self.table, self.state)
        else:
            change = await trio.to_thread.run_sync(transaction.examine, pages, commit, self.table, self.state)
        if self.is_no_change(change, pages.page_size, commit):
            return
        head = self.ltx_header(pages.page_size, commit, part)
        final = self.ltx_dir.file(head.min_txid, head.max_txid)
        if self.writes_through:
            await self._write_through(head, change, pages, frames)
            return
        if pages.size <= transaction.SMALL:
            await self.store.gate.passing()
            self.check_writable()
            size = transaction.write_small(final, head, change)
        else:
            self.check_writable()
            size = await self._write_large(final, head, change, pages)
        self.captured(head, change, size, frames=frames)

    async def _write_large(self, final: Path, head: ltx.Header, change: Change, pages: PageMap) -> int:
        temporary = self.ltx_dir.temporary()
        size = await trio.to_thread.run_sync(transaction.write_large, temporary, head, change, pages)
        try:
            await self.store.gate.passing()
            self.check_writable()  # the lease may be gone by now
            os.replace(temporary, final)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return size

    async def _write_through(
        self, head: ltx.Header, change: Change, pages: PageMap, frames: tuple[int, int]
    ) -> None:  # fmt: skip
        self.check_writable()
        temporary = self.ltx_dir.temporary()
        if pages.size <= transaction.SMALL:
            size = transaction.write_small(temporary, head, change)
        else:
            size = await trio.to_thread.run_sync(transaction.write_large, temporary, head, change, pages)
        await writethrough.commit(self, head, change, temporary, size, frames)

    def check_writable(self) -> None:
        """Whether a transaction of an application may be captured.

        Raises:
            OSError: EROFS and others when not.
        """
        if self.unfinished is not None:
            raise OSError(errno.EIO, "an earlier transaction from elsewhere is not applied completely yet")
        if not self.writable:
            raise self.store.refusal(errno.EROFS)
        if self.halt is not None:
            raise OSError(errno.EBUSY, "another node holds the halt lock")

    def is_no_change(self, change: Change, page_size: int, commit: int) -> bool:
        """Whether the examined pages leave the database as it was: then there is no transaction."""
        return not change and commit == self.state.commit and page_size == self.state.page_size

    def ltx_header(self, page_size: int, commit: int, part: WALPart = NO_WAL) -> ltx.Header:
        """Header of the next transaction's LTX file."""
        return transaction.header(
            commit,
            page_size,
            self.state,
            part,
            flags=1 if self.store.compress else 0,
            timestamp=max(time.time_ns() // 1_000_000, self.state.timestamp),
            node_id=self.store.node_id,
        )

    def captured(
        self,
        head: ltx.Header,
        change: Change,
        size: int,
        *,
        frames: tuple[int, int] = (0, 0),
        durable: bool = False,
        sure: bool = False,
    ) -> None:
        """The transaction's LTX file is in place: move the position.

        Args:
            sure: it counts, whether or not this node may write by now.

        Raises:
            OSError: EROFS when the time of the lease ran out while it was captured; it is taken back, with its file.
        """
        before = self.state
        is_wal = before.is_wal if change.is_wal is None else change.is_wal
        self.state = State(Pos(head.max_txid, change.post_apply), head.page_size, head.commit, head.timestamp, is_wal)
        in_doubt = frames[1] > 0 and self.shm_users > 0
        undo = self._undo(before, head, change)
        self._move_table(before, head, change)
        self.ltx_dir.add(head.min_txid, head.max_txid, size)
        self.counters.commits += 1
        self.publisher.add(Captured(self.state, before, *frames, undo, accepted=not in_doubt, durable=durable))
        if durable:
            self._synced = max(self._synced, head.max_txid) if self._synced == head.max_txid - 1 else self._synced
        if not sure:
            self._confirm()
        self.position_moved()
        if len(self.publisher):
            self.store.pending(self)

    def _confirm(self) -> None:
        """The last look at the lease before the commit is answered, which the caller does without an await.

        The process may have stood still for longer than the lease at any point before, and another node may be primary.
        """
        if not self.writable:
            self.retract("the lease ran out while it was captured")
            self.check_writable()
        self.publisher.confirm()

    def _undo(self, before: State, head: ltx.Header, change: Change) -> list[tuple[int, int]]:
        undo = [(pgno, self.table.get(pgno)) for pgno, _ in change.checksums]
        if head.commit < before.commit:
            undo += self.table.tail(head.commit)
        return undo

    def _move_table(self, before: State, head: ltx.Header, change: Change) -> None:
        if head.page_size != before.page_size:
            self.table.clear()
        self.table.update(change.checksums)
        if head.commit < before.commit:
            self.table.truncate(head.commit)

    def retract(self, reason: str = "discarded by SQLite") -> Captured:
        """Take back the newest transaction: it is in doubt and SQLite has discarded it, or it was never answered."""
        captured = self.publisher.retract()
        txid = captured.state.pos.txid
        log.debug("%s: retracting transaction %s: %s", self.name, ltx.format_txid(txid), reason)
        self.ltx_dir.remove((txid, txid))
        if captured.state.page_size != captured.before.page_size:
            self.table.clear()
        self.table.truncate(captured.before.commit)
        self.table.update(captured.undo)
        self.state = captured.before
        self._synced = min(self._synced, txid - 1)
        self.counters.commits -= 1
        self.position_moved()
        return captured

    def file_has(self, captured: Captured) -> bool:
        """Whether the database file itself holds what the transaction wrote."""
        page_size = captured.state.page_size
        fd = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for pgno, _ in captured.undo:
                data = os.pread(fd, page_size, (pgno - 1) * page_size)
                if pgno <= captured.state.commit and (
                    len(data) != page_size or ltx.page_checksum(pgno, data) != self.table.get(pgno)
                ):
                    return False
        finally:
            os.close(fd)
        return True

    # ----------------------------------------------------------------------------------------------- publishing

    @property
    def trail(self) -> Trail:
        """The positions it has been at; remembered from the first time somebody asks."""
        if self._trail is None:
            self._trail = Trail(self.ltx_dir, lambda: self.state.pos)
        return self._trail

    def position_moved(self) -> None:
        """Wake those who wait for a position."""
        if self._trail is not None:
            self._trail.note(self.state.pos)
        self.moved.set()
        self.moved = trio.Event()

    async def wait_position(self, txid: int, timeout: float) -> bool:
        """Wait until `pos` is at or past a TXID; False when `timeout` seconds pass first.

        Whether that is the position somebody has seen, and not one of another history, only `trail` says.
        """
        with trio.move_on_after(timeout):
            while self.pos.txid < txid:
                await self.moved.wait()
        return self.pos.txid >= txid

    def _publish(self, captured: Captured) -> None:
        self.announce(captured.state)

    def announce(self, state: State) -> None:
        """Everything up to this state is durable and committed: tell streams and subscribers."""
        self.published = state.pos
        self.store.published(self)
        if len(self.store.events):
            self.store.events.publish(
                TxEvent(self.name, *state.pos, state.page_size, state.commit, state.timestamp)
            )  # fmt: skip

    # ------------------------------------------------------------------------------------------------- durability

    async def sync_wal(self) -> None:
        """Make the WAL durable, and with it every transaction captured from it so far.

        Raises:
            OSError: the disk failed.
        """
        if self.wal.holed:
            await self.flush_ltx()
        txid = self.pos.txid
        fd = os.dup(self.wal.fd)
        try:
            await trio.to_thread.run_sync(os.fdatasync, fd)
        finally:
            os.close(fd)
        self.publisher.made_durable(txid)

    async def flush_ltx(self) -> None:
        """Make every LTX file durable: what they were made from is about to be overwritten.

        Raises:
            OSError: the disk failed.
        """
        async with self._flush:
            txid = self.pos.txid
            if txid > self._synced:
                paths = [self.ltx_dir.file(n, n) for n in range(self._synced + 1, txid + 1)]
                await trio.to_thread.run_sync(sync_files, self.ltx_dir.path, paths)
                self._synced = max(self._synced, min(txid, self.pos.txid))
            self.publisher.made_durable(txid)

    @property
    def durable_ltx(self) -> int:
        """TXID up to which the LTX files are durable."""
        return self._synced

    @property
    def unsynced_ltx(self) -> int:
        """Number of LTX files not known to be durable."""
        return self.pos.txid - self._synced

    def directory_changed(self) -> None:
        """A file was made or deleted in the database's directory: the next directory sync includes it."""
        self.store.directories.changed(self.path, self.sync_directory)

    def sync_directory(self) -> None:
        """Make the directory's entries durable. Blocking."""
        self.journal.sync_spare()
        sync_directory(self.path)

    async def save_table(self) -> None:
        """Bring the file with the page checksums up to date, so that the next start has less to replay.

        Raises:
            OSError: the disk failed.
        """
        if self.published == self._stamp.pos or not self._settled:
            return
        await self.flush_ltx()
        await self._sync_content()
        if not self._settled:
            return  # moved meanwhile: next time
        stamp = Stamp(self.state.page_size, self.state.commit, self.state.pos)
        blocks = self.table.take_changes(stamp.commit, whole=self._stamp.page_size != stamp.page_size)
        try:
            await trio.to_thread.run_sync(pagetable.save, self.path / "checksums", stamp, blocks)
        except OSError:
            self._stamp = Stamp(0, 0, self._stamp.pos)  # which blocks are missing is not known: save all next time
            raise
        self._stamp = stamp

    async def _sync_content(self) -> None:
        """Make the database file and the WAL durable: start-up looks only at pages that later transactions touch."""
        for path in (self.file, self.wal.path):
            await trio.to_thread.run_sync(sync_file, path)

    @property
    def _settled(self) -> bool:
        return self.published == self.pos and not self._flush.locked() and not self.wal.holed

    # ----------------------------------------------------------------------------------- as a client of the mount

    async def close_live(self, idle: float = 0.0) -> None:
        """Close the database in the client process, unless it is or was in use less than `idle` seconds ago."""
        if self._live_users or trio.current_time() - self.live_used < idle or self.live_used == -math.inf:
            return
        async with self.incoming:
            if not self._live_users:
                await self.live.close()
                self.live_used = -math.inf

    @contextmanager
    def using_live(self) -> Iterator[Client]:
        """The database as the client process has it open; it stays open meanwhile."""
        self._live_users += 1
        try:
            yield self.live
        finally:
            self._live_users -= 1
            self.live_used = trio.current_time()

    def new_content(self) -> Content:
        """For a snapshot that is arriving: with a file that can become the database's if there is none yet."""
        return Content(temporary(self.path) if self.is_blank else None)

    @property
    def is_blank(self) -> bool:
        """Whether nothing was ever written to the database file, as far as is known here."""
        if self.commit or self.wal.end or self.journal.active:
            return False
        try:
            return self.file.stat().st_size == 0
        except FileNotFoundError:
            return True

    def exchange(self, size: int) -> bool:
        """The client process makes the empty file grow: put the content that waits in its place; False without one.

        Raises:
            OSError: nothing was exchanged.
        """
        if self.replacement is None:
            return False
        self.replacement.take_place(self.file, size, self.open_files)
        self.replacement = None
        self.directory_changed()
        return True

    async def apply_ltx(
        self,
        path: Path,
        header: ltx.Header,
        trailer: ltx.Trailer,
        *,
        local: bool = False,
        halt: Halt | None = None,
        content: Content | None = None,
    ) -> Pos:
        """Apply a complete, verified LTX file that lies in `ltx_dir`; the new position.

        Args:
            path: the file, under a temporary name; it is moved to its place.
            header, trailer: its own.
            local: whether this is a new transaction of the primary; else it comes from the primary.
            halt: by whose right it is written, while the database is halted.
            content: of the whole database, if it is known; the caller deletes what is left of it.

        Raises:
            PositionMismatch: it does not follow the position, or would not lead where it says.
            ReadOnly: the node's role does not allow it.
            DatabaseBusy: applications kept the database locked.
            OSError: the disk failed.
        """
        if not local and header.node_id != self.store.node_id:
            self._stop_writing()
        async with self.incoming:
            await self._finish()
            if content is not None:
                item = Incoming(path, header, trailer, content.table, None, local, halt, content=content)
            elif path.stat().st_size <= incoming.IN_MEMORY:
                item = incoming.read(path, header, trailer, local=local, halt=halt)
            else:
                item = await trio.to_thread.run_sync(
                    functools.partial(incoming.read, path, header, trailer, local=local, halt=halt)
                )
            return await incoming.apply(self, item)

    async def apply_batch(self, items: Sequence[Small]) -> int:
        """Apply as many transactions as can be applied together, from the first on; how many, see `batch.apply`.

        Raises:
            PositionMismatch, ReadOnly, DatabaseBusy, OSError: as `apply_ltx`; none was applied.
        """
        self._stop_writing()
        async with self.incoming:
            await self._finish()
            return await batch.apply(self, items)

    def _stop_writing(self) -> None:
        """The primary has a transaction of another node: then this one cannot have the halt lock any more."""
        if self.writer is not None and self.writer.valid:
            self.writer.end("the primary has a transaction that is not of this node")

    async def came_back(self, pos: Pos) -> bool:
        """Whether a transaction of this node that its primary sends is here already, see `writethrough.came_back`."""
        return await writethrough.came_back(self, pos)

    async def import_database(self, source: Path) -> Pos:
        """Replace the content by that of a SQLite file, as one transaction; the new position.

        Raises:
            FormatError, ReadOnly, DatabaseBusy, OSError: nothing has changed.
        """
        async with self.incoming:
            await self._finish()
            return await incoming.import_database(self, source)

    @asynccontextmanager
    async def snapshot(self, patience: float = incoming.LOCK_TIMEOUT) -> AsyncIterator[Snapshot[SnapshotInfo]]:
        """A consistent view of the database as of one position; writers go on.

        Args:
            patience: seconds to wait for applications' locks.

        Raises:
            DatabaseBusy: applications kept the database locked.
            OSError: the disk failed.
        """
        deadline = time.monotonic() + patience
        with self.using_live() as live:
            try:
                snapshot = await live.snapshot(str(self.file), str(self.wal.path), note=self._note, deadline=deadline)
            except Busy as error:
                raise DatabaseBusy(str(error)) from None
            try:
                yield snapshot
            finally:
                await live.release(snapshot)

    def _note(self, index_header: bytes) -> SnapshotInfo:
        """What a snapshot is of, taken while the client process holds the write lock."""
        captured = self.publisher.in_doubt
        if captured is not None and self.wal.header is not None:
            if indexwatch.covers(index_header, captured.wal_end, self.wal.header.salt):
                self.publisher.accept()
            else:
                return SnapshotInfo(captured.before.pos, captured.before.timestamp)
        return SnapshotInfo(self.state.pos, self.state.timestamp)

    def settle_doubt(self, index_header: bytes) -> None:
        """The client process holds the write lock and is about to write: what is in doubt is settled now."""
        self._note(index_header)
        if self.publisher.in_doubt is not None:
            self.wal.retract()

    async def resolve_doubt(self) -> None:
        """Find out what became of the transaction in doubt, when its writer seems to be gone.

        Raises:
            DatabaseBusy: a writer is active after all.
            OSError: the disk failed.
        """
        deadline = time.monotonic() + RESOLVE_LIMIT
        try:
            with self.using_live() as live:
                await live.settle(self._judge, deadline=deadline)
        except Busy as error:
            raise DatabaseBusy(str(error)) from None

    def _judge(self, index_header: bytes) -> int | None:
        self._note(index_header)
        if self.publisher.in_doubt is None or self.wal.header is None:
            return None
        offset = self.wal.last_offset
        self.wal.retract()
        return offset

    @property
    def wants_checkpoint(self) -> bool:
        """Whether the WAL should be folded: the daemon has appended much to it, or nothing could recover it."""
        return self._appended > CHECKPOINT_SIZE or self.wal.holed

    async def checkpoint(self) -> None:
        """Fold the WAL of a replica into its database file as far as readers allow."""
        self._appended = 0
        with self.using_live() as live:
            await live.checkpoint()

    def wal_restarted(self) -> None:
        """An application begins to write the WAL from its start again."""
        size = os.fstat(self.wal.fd).st_size
        if size > self._primed + PRIME_STEP:
            self._primed = size
            self.store.prime(self)

    def appended(self, size: int) -> None:
        """The daemon appended bytes to the WAL."""
        self._appended += size
        if self.wants_checkpoint:
            self.store.wal_grown.set()

    def applied(self, captured: Captured) -> None:
        """A transaction from elsewhere is in place."""
        self.wal.behind = True
        self.publisher.add(captured)
        self.position_moved()

    def forget_saved_table(self) -> None:
        """The saved page table is of another history: save all of it next time."""
        self._stamp = Stamp(0, 0, Pos(0, 0))

    def begins_at(self, txid: int) -> None:
        """A durable snapshot has replaced everything: of what was captured before, no file needs to be synced."""
        self._synced = txid
        self.publisher.made_durable(self.pos.txid)
        if self._trail is not None:
            self._trail.clear()

    async def finish(self) -> None:
        """Bring a transaction to its end that was applied half, for lack of space perhaps.

        Raises:
            DatabaseBusy, OSError: not now; nothing else can be applied or committed before.
        """
        async with self.incoming:
            await self._finish()

    async def _finish(self) -> None:
        if self.unfinished is not None:
            await self.unfinished()
            self.unfinished = None

    # --------------------------------------------------------------------------------------------------- dropping

    async def drop(self) -> None:
        """The application deleted the database: one more transaction, of no pages, and the files go.

        Raises:
            OSError: EROFS when this node may not write, or what the disk says; nothing was deleted.
        """
        await self.flush_ltx()
        await self.store.gate.passing()
        if self.arriving.closed:  # a deletion does not take SQLite's locks, nor may it wait: it locks the directory
            raise OSError(errno.EBUSY, "a transaction from elsewhere is being applied")
        self.check_writable()
        if self.state.commit:
            await self.capture_deletion()
        self.remove_files()

    async def capture_deletion(self) -> None:
        """Capture that the database is empty now.

        Raises:
            OSError: EROFS when this node may not write, or what the disk says; nothing was captured.
        """
        await self.store.gate.passing()
        self.check_writable()
        if self.writes_through:
            raise OSError(errno.EROFS, "a database can only be deleted on the primary")
        head = self.ltx_header(self.state.page_size, 0)
        change = Change(post_apply=EMPTY, is_wal=False)
        size = transaction.write_small(self.ltx_dir.file(head.min_txid, head.max_txid), head, change)
        self.publisher.accept()
        self.captured(head, change, size)

    def drop_shm(self) -> None:
        """The wal-index was deleted; those who have it open keep theirs."""
        if self.shm is not None:
            os.close(self.shm)
        self.shm, self.shm_users = None, 0
        self.store.index_gone(self)

    def remove_files(self) -> None:
        """Delete the database file and its side files; LTX files and the position stay."""
        self.wal.close()
        self._primed = 0
        self.journal.forget()
        self.drop_shm()
        for name in ("wal", "journal", "database"):
            (self.path / name).unlink(missing_ok=True)
        self.journal.remove_spare()
        self.directory_changed()
