"""From captured to published: who makes transactions durable, and who notices that SQLite has accepted them.

Under synchronous=FULL the application's own sync of the WAL makes a transaction durable, and this task only steps in
when that does not come. Under NORMAL nobody syncs: here the WAL is synced (one sync for all transactions since the
last), because recovery re-creates LTX files from it. LTX files themselves follow at leisure, at the latest before
the WAL they came from is overwritten (`Disk.flush`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from litefs.errors import DatabaseBusy, LitefsError
from litefs.live.client import ClientProcess
from litefs.store import doubt

if TYPE_CHECKING:
    from litefs.store.database import Database
    from litefs.store.publisher import Captured
    from litefs.store.store import Store

log = logging.getLogger(__name__)

FSYNC_GRACE = 0.005  # seconds that a writer known to sync its WAL gets before it is done for it
DOUBT_DELAY = 0.3  # seconds between looks for transactions whose writers seem to be dead
IDLE_DELAY = 0.2  # seconds between rounds while nobody waits for published transactions
LTX_BATCH = 64  # LTX files not yet durable from which on they are synced in the background


class Durability:
    """The background task that moves transactions from captured to published."""

    def __init__(self, store: Store, client: ClientProcess) -> None:
        self._store = store
        self._client = client
        self._dirty: set[Database] = set()
        self._doubts: dict[Database, Captured | None] = {}  # what was in doubt when last looked at
        self._uncovered: dict[Database, int] = {}  # TXID that the wal-index does not cover after a while
        self._event = trio.Event()

    def pending(self, db: Database) -> None:
        """A transaction was captured."""
        self._dirty.add(db)
        self._event.set()
        if db not in self._doubts and db.publisher.in_doubt is not None:
            self._doubts[db] = None
        if self._store.watched:
            self._watch_index(db)

    def wanted(self) -> None:
        """Someone wants to hear of transactions at once: look for those that wait."""
        for db in self._dirty:
            self._watch_index(db)
        self._event.set()

    # ---------------------------------------------------------------------------------------------- acceptance

    def _watch_index(self, db: Database) -> None:
        captured = db.publisher.in_doubt
        if captured is None:
            return
        if db.shm is None or db.wal.header is None:
            db.publisher.accept()  # locking_mode=EXCLUSIVE: there is no wal-index to wait for
            return
        path = str(self._store.mount_dir / f"{db.name}-shm")
        self._client.watch(db.name, path, captured.wal_end, db.wal.header.salt, captured.state.pos.txid)

    def seen(self, name: str, txid: int, covered: bool) -> None:
        """Whether the wal-index of a database covers a transaction."""
        db = self._store.opened(name)
        captured = db.publisher.in_doubt if db is not None else None
        if db is not None and captured is not None and captured.state.pos.txid == txid:
            if covered:
                db.publisher.accept()
            else:
                self._uncovered[db] = txid

    async def resolve_doubts(self) -> None:
        """Settle transactions whose writers died before SQLite considered them committed, until cancelled.

        That takes SQLite's write lock for a moment. A writer that lives must not find it taken: so the wal-index was
        looked at, without locks, a while after the commit frame, and nobody waits for the disk meanwhile.
        """
        while True:
            await trio.sleep(DOUBT_DELAY)
            for db, known in list(self._doubts.items()):
                captured = db.publisher.in_doubt
                if captured is None:
                    del self._doubts[db]
                    self._uncovered.pop(db, None)
                elif captured is not known:
                    self._doubts[db] = captured
                    self._uncovered.pop(db, None)
                    self._watch_index(db)
                elif db.shm is not None and not db.wal.syncing and self._uncovered.get(db) == captured.state.pos.txid:
                    await self._resolve(db)
                else:
                    self._watch_index(db)

    @staticmethod
    async def _resolve(db: Database) -> None:
        try:
            await doubt.resolve(db)
        except DatabaseBusy as error:
            log.debug("%s: %s", db.name, error)
        except (OSError, LitefsError) as error:
            log.warning("%s: cannot tell what became of its last transaction: %s", db.name, error)

    def index_gone(self, db: Database) -> None:
        """The wal-index of a database was deleted."""
        self._client.forget(db.name)

    # ---------------------------------------------------------------------------------------------- durability

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._event.wait()
            self._event = trio.Event()
            if not self._store.watched:
                with trio.move_on_after(IDLE_DELAY):
                    await self._event.wait()
                self._event = trio.Event()
            dirty, self._dirty = self._dirty, set()
            for db in dirty:
                await self._make_durable(db)

    async def _make_durable(self, db: Database) -> None:
        if db.disk.failed:
            return  # what waits, waits for the next start
        try:
            if not self._store.watched:
                self._watch_index(db)
            if db.publisher.undurable:
                await self._sync(db)
        except OSError as error:
            if db.disk.failed:
                return
            log.error("%s: cannot make transactions durable, will try again: %s", db.name, error)
            await trio.sleep(1)
        if len(db.publisher):
            self._dirty.add(db)
            if db.publisher.undurable:
                self._event.set()

    async def _sync(self, db: Database) -> None:
        if not db.wal.exists or db.wal.end == 0:
            await db.disk.flush()
            return
        if db.durable_by_fsync:
            before = db.pos
            await trio.sleep(FSYNC_GRACE)
            if not db.publisher.undurable or db.pos != before:
                return
            db.durable_by_fsync = False
        if db.wal.exists:
            await db.disk.sync_wal()
        if db.disk.undurable >= LTX_BATCH:
            await db.disk.flush()
