"""All databases of this node, and what is true for the node as a whole."""

from __future__ import annotations

import logging
import math
import os
import secrets
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from litefs.errors import BadName, DatabaseNotFound, StoreError
from litefs.live.client import ClientProcess
from litefs.ltx import Pos
from litefs.store import branches, clusterid, nodeids
from litefs.store.database import Database
from litefs.store.directories import Directories
from litefs.store.durability import Durability
from litefs.store.events import EventHub
from litefs.store.gate import Gate
from litefs.store.names import check_name
from litefs.store.resting import positions
from litefs.store.retention import Retention
from litefs.store.subscription import Subscription, Subscriptions
from litefs.store.superjournal import leftovers
from litefs.store.syncing import sync_directory

log = logging.getLogger(__name__)

SAVE_CHECK = 1.0  # seconds between looks for databases whose page table should be saved
SAVE_INTERVAL = 30.0  # seconds after which it is, if they have moved
SAVE_AFTER = 2000  # transactions after which it is
CLOSE_INTERVAL = 5.0  # seconds between looks for databases that the client process may close
IDLE_PRIMARY = 5.0  # seconds without use after which it does; soon, so that applications clean up after themselves
IDLE_REPLICA = 60.0
PUBLISH_CHECK = 0.02  # seconds between looks whether everything is published: a retracted transaction tells nobody
LEAVE_LIMIT = 5.0  # seconds to close all of them at the end


def clock() -> float:
    """Seconds that also pass while the machine is suspended; what the time of a lease is measured by."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Remote(Protocol):
    """The halt lock of databases whose primary is another node (`litefs.cluster.remote`)."""

    async def open(self, db: Database) -> None:
        """Returns once applications here may write. Raises OSError."""

    def close(self, db: Database) -> None:
        """One of those who opened it is gone."""


class Store:
    """The data directory of a node.

    Args:
        data_dir: where ``clusterid`` and ``dbs/`` are; made if missing.
        mount_dir: where the databases are mounted; the client process works there.
        node_id: random, never 0; new for each process.
        compress: whether LTX files are LZ4-compressed.
        retention: how long LTX files are kept, in seconds.
        retention_interval: seconds between looks for files that are too old; 0 or less turns retention off.
        backup: whether a backup is configured: then only what it holds (`Database.hwm`) may be removed.
        capture_unjournaled: whether writes to a database without a journal are captured late instead of refused.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        mount_dir: str | os.PathLike[str],
        *,
        node_id: int | None = None,
        compress: bool = True,
        retention: float = 600.0,
        retention_interval: float = 60.0,
        backup: bool = False,
        capture_unjournaled: bool = False,
    ) -> None:
        self.data_dir = Path(data_dir)
        self.mount_dir = Path(mount_dir)
        self.compress = compress
        self.capture_unjournaled = capture_unjournaled
        self.refused = 0  # writes of applications that were refused, as this node may not write
        self._writable = False
        self._writable_until = math.inf
        self.gate = Gate()
        self.remote: Remote | None = None
        self.events = EventHub()
        self.subscriptions = Subscriptions()
        self.directories = Directories()
        self._moved: set[Database] = set()  # since their page table was saved
        self.wal_grown = trio.Event()
        self._to_prime: set[Database] = set()
        self._prime_wanted = trio.Event()
        self._databases: dict[str, Database] = {}
        self._recovering: dict[str, trio.Event] = {}
        self.client = ClientProcess(lambda name, txid, covered: self._durability.seen(name, txid, covered))
        self._durability = Durability(self, self.client)
        self._retention = Retention(self, retention, retention_interval, backup=backup)
        if not (self.dbs_dir.exists() and self.super_dir.exists()):
            self.dbs_dir.mkdir(parents=True, exist_ok=True)
            self.super_dir.mkdir(exist_ok=True)
            sync_directory(self.data_dir)
        self._leftovers = leftovers(self.super_dir)  # before applications can make any
        branches.sweep(self.data_dir)
        self.node_id = nodeids.remember(self.data_dir, node_id or secrets.randbits(63) | 1)
        self.cluster_id = clusterid.read(self.data_dir)

    # ----------------------------------------------------------------------------------------------- directories

    @property
    def dbs_dir(self) -> Path:
        """Directory with one directory a database."""
        return self.data_dir / "dbs"

    @property
    def super_dir(self) -> Path:
        """Directory of super-journals."""
        return self.data_dir / "super"

    def super_changed(self) -> None:
        """A super-journal was made or deleted: the next directory sync includes it."""
        self.directories.changed(self.super_dir, partial(sync_directory, self.super_dir))

    def database_path(self, name: str) -> Path:
        """Directory of a database."""
        return self.dbs_dir / check_name(name)

    # ------------------------------------------------------------------------------------------------ cluster id

    def set_cluster_id(self, value: str) -> None:
        """Remember the cluster this node belongs to, durably.

        Raises:
            StoreError: not a cluster ID, or the node belongs to another cluster.
        """
        clusterid.check(value)
        if self.cluster_id not in ("", value):
            raise StoreError(f"cannot change cluster id from {self.cluster_id} to {value}", "see: litefs cluster")
        if self.cluster_id != value:
            clusterid.write(self.data_dir, value)
        self.cluster_id = value

    # -------------------------------------------------------------------------------------------------- databases

    def names(self) -> list[str]:
        """Every database that has a directory, dropped ones included, in order."""
        found = []
        for entry in os.scandir(self.dbs_dir):
            if not entry.is_dir():
                continue
            try:
                found.append(check_name(entry.name))
            except BadName as error:
                log.warning("ignoring %s: %s", entry.path, error)
        return sorted(found)

    def opened(self, name: str) -> Database | None:
        """The database if it has been recovered already."""
        return self._databases.get(name)

    def open_databases(self) -> list[Database]:
        """Databases that have been recovered since start."""
        return list(self._databases.values())

    @property
    def failed(self) -> frozenset[str]:
        """Databases whose disk has failed: nothing more can be written to them before the next start."""
        return frozenset(name for name, db in self._databases.items() if db.disk.failed)

    async def database(self, name: str, *, create: bool = False) -> Database:
        """The database, recovered on first use.

        Raises:
            DatabaseNotFound: there is none, and `create` is false.
            BadName: the name cannot be one.
            OSError: the disk failed.
        """
        db = self._databases.get(name)
        while db is None and (waiting := self._recovering.get(name)) is not None:
            await waiting.wait()
            db = self._databases.get(name)
        return db if db is not None else await self._open(name, create)

    async def _open(self, name: str, create: bool) -> Database:
        path = self.database_path(name)
        if not path.is_dir():
            if not create:
                raise DatabaseNotFound(name)
            path.mkdir()
            sync_directory(self.dbs_dir)
        done = self._recovering[name] = trio.Event()
        try:
            db = Database(self, name)
            from litefs.store.recovery import recover  # late: the mount is up before a database is opened

            recovered = await trio.to_thread.run_sync(recover, db)
            db.recovered(*recovered)
            self._databases[name] = db
            return db
        finally:
            del self._recovering[name]
            done.set()

    def forget(self, db: Database) -> None:
        """A database that never held anything is gone: nothing of it is kept."""
        self._databases.pop(db.name, None)
        self._moved.discard(db)
        self.directories.forget(db.path)

    async def positions(self, names: Collection[str] | None = None) -> dict[str, Pos]:
        """Published position of every database that was ever written, dropped ones included.

        One that cannot be recovered, since its disk is full or damaged, is left out: the others must go on.
        """
        wanted = [name for name in self.names() if names is None or name in names]
        resting = [name for name in wanted if name not in self._databases]
        found = await trio.to_thread.run_sync(positions, self.dbs_dir, resting)
        for name in wanted:
            if name in self._databases or found[name] is None:
                try:
                    found[name] = (await self.database(name)).published
                except OSError as error:
                    log.error("%s: cannot be used: %s", name, error)
        return {name: pos for name, pos in found.items() if pos is not None and pos.txid}

    # ------------------------------------------------------------------------------------------------- publishing

    @asynccontextmanager
    async def subscribe(self, names: Collection[str] | None = None) -> AsyncIterator[Subscription]:
        """Wait for published positions: ``async with store.subscribe() as s: moved = await s.wait()``."""
        with self.subscriptions.open(names) as subscription:
            self._durability.wanted()
            yield subscription

    @property
    def watched(self) -> bool:
        """Whether anyone wants to hear of transactions at once."""
        return bool(len(self.subscriptions) or len(self.events))

    def published(self, db: Database) -> None:
        """A database's published position moved."""
        self._moved.add(db)
        self.subscriptions.notify(db.name)

    async def all_published(self) -> None:
        """Return when no captured transaction waits to be published. With the gate shut it stays so.

        Those that this node will never publish, since its disk has failed, do not count.
        """
        async with self.subscribe() as subscription:
            while any(len(db.publisher) and not db.disk.failed for db in self.open_databases()):
                with trio.move_on_after(PUBLISH_CHECK):
                    await subscription.wait()

    def pending(self, db: Database) -> None:
        """A transaction was captured that is not published yet."""
        self._durability.pending(db)

    def index_gone(self, db: Database) -> None:
        """A database's wal-index was deleted."""
        self._durability.index_gone(db)

    @property
    def writable(self) -> bool:
        """Whether this node may commit: it is the primary, and the time of its lease has not run out."""
        return self._writable and (self._writable_until == math.inf or clock() < self._writable_until)

    def refusal(self, number: int, text: str = "this node is not the primary") -> OSError:
        """The error for an application that tries to write here; the proxy wants to know that there was one."""
        self.refused += 1
        return OSError(number, text)

    def set_writable(self, value: bool, *, until: float = math.inf) -> None:
        """Say whether this node may commit. Taking it away refuses every commit from this moment on.

        Args:
            value: whether it may.
            until: time of `clock` from which on it may not, whoever is there to say so.
        """
        self._writable, self._writable_until = value, until

    # ------------------------------------------------------------------------------------------------- life cycle

    async def run(self) -> None:
        """Background work, until cancelled: durability, retention, saving page tables."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.client.run)
            nursery.start_soon(self._durability.run)
            nursery.start_soon(self._durability.resolve_doubts)
            nursery.start_soon(self._retention.run)
            nursery.start_soon(self._save_tables)
            nursery.start_soon(self._finish_super_journals)
            nursery.start_soon(self._close_idle)
            nursery.start_soon(self._checkpoint)
            nursery.start_soon(self._prime)

    async def _save_tables(self) -> None:
        """Keep what a start has to replay short: in transactions, and in time."""
        last = trio.current_time()
        while True:
            await trio.sleep(SAVE_CHECK)
            everyone = trio.current_time() - last >= SAVE_INTERVAL
            for db in list(self._moved):
                if everyone or db.pos.txid - db.disk.saved.txid >= SAVE_AFTER:
                    await self._save_table(db)
            if everyone:
                last = trio.current_time()

    async def _save_table(self, db: Database) -> None:
        self._moved.discard(db)
        try:
            await db.disk.save_table()
        except OSError as error:
            log.warning("%s: cannot save the page checksums: %s", db.name, error)
            self._moved.add(db)

    async def _finish_super_journals(self) -> None:
        """A super-journal left by a crash may go once every database that it names has been recovered."""
        for path, names in self._leftovers:
            for name in names:
                if (self.dbs_dir / name).is_dir():
                    await self.database(name)
            path.unlink(missing_ok=True)

    async def _close_idle(self) -> None:
        """Close databases in the client process that it has nothing to do with for a while; fold their WALs.

        And bring to an end what could not be applied completely.
        """
        while True:
            await trio.sleep(CLOSE_INTERVAL)
            for db in self.open_databases():
                try:
                    if db.unfinished is not None:
                        await db.finish()
                    await db.close_live(IDLE_PRIMARY if self.writable else IDLE_REPLICA)
                except (OSError, StoreError) as error:
                    log.warning("%s: %s", db.name, error)

    def prime(self, db: Database) -> None:
        """Have the WAL of a database read through the mount, see `Client.prime`."""
        self._to_prime.add(db)
        self._prime_wanted.set()

    async def _prime(self) -> None:
        while True:
            await self._prime_wanted.wait()
            self._prime_wanted = trio.Event()
            while self._to_prime:
                db = self._to_prime.pop()
                try:
                    await db.live.prime()
                except OSError as error:
                    log.debug("%s: cannot read its WAL: %s", db.name, error)

    async def _checkpoint(self) -> None:
        """Fold the WALs of replicated databases when they have grown: no application may do it there."""
        while True:
            await self.wal_grown.wait()
            self.wal_grown = trio.Event()
            for db in self.open_databases():
                if db.wants_checkpoint:
                    try:
                        await db.checkpoint()
                    except (OSError, StoreError) as error:
                        log.warning("%s: cannot checkpoint: %s", db.name, error)

    async def leave_mount(self) -> None:
        """Let go of everything on the mount, before it is removed."""
        with trio.move_on_after(LEAVE_LIMIT):
            for db in self.open_databases():
                try:
                    await db.close_live()
                except (OSError, StoreError) as error:
                    log.warning("%s: %s", db.name, error)
        await self.client.stop()

    async def close(self) -> None:
        """Leave every database as it should lie on disk: no WAL, page table saved. After the mount is gone."""
        from litefs.store.recovery import settle

        for db in self.open_databases():
            try:
                db.wal.close()
                await trio.to_thread.run_sync(settle, db)
            except (OSError, StoreError) as error:
                log.error("%s: cannot close cleanly, the next start will recover it: %s", db.name, error)
        self._databases.clear()
