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
from litefs.live import Busy, Snapshot
from litefs.live.client import Client
from litefs.ltx import Pos
from litefs.store import batch, capturing, doubt, importing, incoming, writethrough
from litefs.store.batch import Small
from litefs.store.content import Content, OpenFile, temporary
from litefs.store.counters import Counters
from litefs.store.disk import Disk
from litefs.store.events import TxEvent
from litefs.store.gate import Gate
from litefs.store.halt import Halt
from litefs.store.incoming import Incoming
from litefs.store.journal import Journal
from litefs.store.ltxdir import LTXDir
from litefs.store.pagetable import PageTable, Stamp
from litefs.store.publisher import Captured, Publisher, State
from litefs.store.syncing import sync_directory
from litefs.store.trail import Trail
from litefs.store.wal import WAL
from litefs.store.writethrough import Sending, Writer

if TYPE_CHECKING:
    from litefs.store.store import Store

log = logging.getLogger(__name__)

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
        self.disk = Disk(self)
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
        self.open_files: set[OpenFile] = set()  # of the mount, on the database file
        self.replacement: Content | None = None  # takes the place of the empty file when that grows
        self._primed = 0  # bytes of the WAL that the kernel has in its cache for good
        self._live_users = 0
        self._appended = 0  # bytes that the daemon wrote to the WAL since the last checkpoint

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
        self.disk.check()

    @property
    def exists(self) -> bool:
        """Whether there is a database file (it may be empty)."""
        return self.file.exists()

    def recovered(self, state: State, table: PageTable, stamp: Stamp) -> None:
        """Recovery found the database in this state, everything in it committed and durable."""
        self.state, self.table = state, table
        self.published = state.pos
        self.disk.recovered(state.pos.txid, stamp)
        self.wal.load()

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
        """Wait until `pos` is at or past a TXID; False when `timeout` seconds pass first. For plugins.

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

    def directory_changed(self) -> None:
        """A file was made or deleted in the database's directory: the next directory sync includes it."""
        self.store.directories.changed(self.path, self.sync_directory)

    def sync_directory(self) -> None:
        """Make the directory's entries durable. Blocking."""
        self.journal.sync_spare()
        sync_directory(self.path)

    # ----------------------------------------------------------------------------------- as a client of the mount

    async def close_live(self, idle: float = 0.0) -> None:
        """Close the database in the client process, unless it is or was in use less than `idle` seconds ago."""
        if self._live_users or trio.current_time() - self.live_used < idle or self.live_used == -math.inf:
            return
        async with self.incoming:
            if not self._live_users:
                await self.live.close(in_use=any(file.alive and not file.own for file in self.open_files))
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
            return await importing.import_database(self, source)

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

        def note(index_header: bytes) -> SnapshotInfo:  # while the client process holds the write lock
            state = doubt.look(self, index_header)
            return SnapshotInfo(state.pos, state.timestamp)

        with self.using_live() as live:
            try:
                snapshot = await live.snapshot(str(self.file), str(self.wal.path), note=note, deadline=deadline)
            except Busy as error:
                raise DatabaseBusy(str(error)) from None
            try:
                yield snapshot
            finally:
                await live.release(snapshot)

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

    def begins_at(self, txid: int) -> None:
        """A durable snapshot has replaced everything up to a TXID."""
        self.disk.begins_at(txid)
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
        self.disk.check()
        if self.unfinished is not None:
            await self.unfinished()
            self.unfinished = None

    # --------------------------------------------------------------------------------------------------- dropping

    async def drop(self) -> None:
        """The application deleted the database: one more transaction, of no pages, and the files go.

        Raises:
            OSError: EROFS when this node may not write, or what the disk says; nothing was deleted.
        """
        await self.disk.flush()
        await self.store.gate.passing()
        if self.arriving.closed:  # a deletion does not take SQLite's locks, nor may it wait: it locks the directory
            raise OSError(errno.EBUSY, "a transaction from elsewhere is being applied")
        self.check_writable()
        if self.state.commit:
            await capturing.capture_deletion(self)
        self.remove_files()

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
