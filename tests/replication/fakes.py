"""A store without FUSE or SQLite: databases are dictionaries of pages, with real LTX files and subscriptions."""

from __future__ import annotations

import io
import math
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from litefs import ltx
from litefs.errors import DatabaseBusy, DatabaseNotFound, PositionMismatch, StoreError
from litefs.ltx import EMPTY, Header, Pos, Trailer
from litefs.store.batch import Small
from litefs.store.content import Content
from litefs.store.events import EventHub
from litefs.store.gate import Gate
from litefs.store.ltxdir import LTXDir
from litefs.store.names import check_name
from litefs.store.subscription import Subscription, Subscriptions

PAGE = 512


@dataclass(frozen=True)
class Noted:
    """What a snapshot holds."""

    pos: Pos
    timestamp: int


class FakeSnapshot:
    """A copy of the pages; counts how often it was closed."""

    def __init__(self, db: FakeDatabase) -> None:
        self.noted = Noted(db.pos, db.timestamp)
        self.page_size, self.commit = db.page_size, db.commit
        self.closed = 0
        self._pages = dict(db.pages)

    def pages(self, batch: int = 256) -> Iterator[tuple[int, bytes]]:
        """Runs of consecutive pages."""
        for first in range(1, self.commit + 1, batch):
            yield first, b"".join(self._pages[n] for n in range(first, min(first + batch, self.commit + 1)))

    def close(self) -> None:
        """Counts."""
        self.closed += 1


def checksum_of(pages: dict[int, bytes]) -> int:
    """The database checksum."""
    return ltx.database_checksum([ltx.page_checksum(n, data) for n, data in pages.items()])


class FakeDatabase:
    """The part of `litefs.store.Database` that replication uses."""

    def __init__(self, store: FakeStore, name: str) -> None:
        self.store = store
        self.name = name
        (store.data_dir / name / "ltx").mkdir(parents=True)
        self.ltx_dir = LTXDir(store.data_dir / name / "ltx")
        self.pages: dict[int, bytes] = {}
        self.pos = self.published = Pos(0, 0)
        self.page_size = PAGE
        self.commit = 0
        self.timestamp = 0
        self.hwm = 0
        self.snapshots: list[FakeSnapshot] = []
        self.applied: list[tuple[int, int]] = []
        self.batches: list[int] = []
        self.busy = trio.Event()
        self.busy.set()
        self.fail: Exception | None = None

    # -- as a primary

    def write(self, pages: dict[int, bytes], *, publish: bool = True) -> Pos:
        """Commit a transaction; pages are filled up to their size."""
        full = {n: data.ljust(self.page_size, b".") for n, data in pages.items()}
        self.pages |= full
        self.commit = max(self.pages)
        return self._commit(
            full, ltx.database_checksum([ltx.page_checksum(n, d) for n, d in self.pages.items()]), publish
        )

    def drop(self) -> Pos:
        """Delete the database."""
        self.pages.clear()
        self.commit = 0
        return self._commit({}, EMPTY, True)

    def _commit(self, pages: dict[int, bytes], checksum: int, publish: bool) -> Pos:
        txid = self.pos.txid + 1
        self.timestamp = int(time.time() * 1000)
        header = Header(
            self.page_size, self.commit, txid, txid, int(self.store.compress), self.timestamp, self.pos.checksum,
            node_id=self.store.node_id,
        )  # fmt: skip
        data = ltx.encode(header, sorted(pages.items()), checksum)
        self.ltx_dir.file(txid, txid).write_bytes(data)
        self.ltx_dir.add(txid, txid, len(data))
        self.pos = Pos(txid, checksum)
        if publish:
            self.publish()
        return self.pos

    def publish(self) -> None:
        """Let subscribers know."""
        self.published = self.pos
        self.store.subscriptions.notify(self.name)

    @asynccontextmanager
    async def snapshot(self, patience: float = 10.0) -> AsyncIterator[FakeSnapshot]:
        """The pages as they are now."""
        snapshot = FakeSnapshot(self)
        self.snapshots.append(snapshot)
        try:
            yield snapshot
        finally:
            snapshot.close()

    # -- as a replica

    async def came_back(self, pos: Pos) -> bool:
        """Whether a transaction of this node is here already."""
        return self.pos == pos

    async def apply_batch(self, items: Sequence[Small]) -> int:
        """Replay the first file that is no snapshot."""
        item = items[0]
        if item.header.is_snapshot:
            return 0
        tmp = self.ltx_dir.temporary()
        tmp.write_bytes(item.data)
        try:
            await self.apply_ltx(tmp, item.header, item.trailer, local=False)
        finally:
            tmp.unlink(missing_ok=True)
        self.batches.append(len(items))
        return 1

    def new_content(self) -> Content:
        return Content(None)

    async def apply_ltx(
        self, tmp: Path, header: Header, trailer: Trailer, *, local: bool, content: Content | None = None
    ) -> Pos:
        """Replay a file."""
        assert not local
        if not self.busy.is_set():
            with trio.move_on_after(1):
                await self.busy.wait()
            if not self.busy.is_set():
                raise DatabaseBusy(f"{self.name} is locked")
        if self.fail is not None:
            raise self.fail
        if not header.is_snapshot and header.pos_before != self.pos:
            raise PositionMismatch(f"position mismatch on db {self.name}: {header.pos_before} <> {self.pos}")
        decoder = ltx.Decoder(io.BytesIO(tmp.read_bytes()))
        pages = {} if header.is_snapshot else dict(self.pages)
        pages |= dict(decoder)
        pages = {n: data for n, data in pages.items() if n <= header.commit}
        checksum = checksum_of(pages)
        if checksum != trailer.post_apply:
            raise StoreError(f"{self.name}: checksum {checksum:x} after {header.max_txid}, not {trailer.post_apply:x}")
        self.pages, self.commit, self.page_size = pages, header.commit, header.page_size
        self.timestamp = header.timestamp
        tmp.rename(self.ltx_dir.file(header.min_txid, header.max_txid))
        self.ltx_dir.add(header.min_txid, header.max_txid, 0)
        self.pos = self.published = Pos(header.max_txid, trailer.post_apply)
        self.applied.append((header.min_txid, header.max_txid))
        self.store.subscriptions.notify(self.name)
        self.store.moved.set()
        self.store.moved = trio.Event()
        return self.pos


class FakeStore:
    """The part of `litefs.store.Store` that replication and cluster use."""

    def __init__(self, data_dir: Path, node_id: int = 1, *, compress: bool = True, writable: bool = False) -> None:
        self.data_dir = data_dir
        self.node_id = node_id
        self.compress = compress
        self.writable = writable
        self.cluster_id = ""
        self.failed: frozenset[str] = frozenset()
        self.subscriptions = Subscriptions()
        self.events = EventHub()
        self.gate = Gate()
        self.databases: dict[str, FakeDatabase] = {}
        self.moved = trio.Event()
        data_dir.mkdir(parents=True, exist_ok=True)

    def add(self, name: str) -> FakeDatabase:
        """A new empty database."""
        self.databases[name] = FakeDatabase(self, check_name(name))
        return self.databases[name]

    def set_cluster_id(self, value: str) -> None:
        self.cluster_id = value

    def set_writable(self, value: bool, *, until: float = math.inf) -> None:
        self.writable = value
        self.until = until

    def open_databases(self) -> list[FakeDatabase]:
        return list(self.databases.values())

    async def all_published(self) -> None:
        """What was not published stays so, until a test does it."""
        while any(db.published != db.pos for db in self.databases.values()):
            await trio.sleep(0.01)

    def opened(self, name: str) -> FakeDatabase | None:
        return self.databases.get(name)

    async def database(self, name: str, *, create: bool = False) -> FakeDatabase:
        check_name(name)
        if name not in self.databases:
            if not create:
                raise DatabaseNotFound(name)
            self.add(name)
        return self.databases[name]

    async def positions(self, names: Collection[str] | None = None) -> dict[str, Pos]:
        return {
            name: db.published
            for name, db in self.databases.items()
            if db.published.txid and (names is None or name in names)
        }

    @asynccontextmanager
    async def subscribe(self, names: Collection[str] | None = None) -> AsyncIterator[Subscription]:
        with self.subscriptions.open(names) as subscription:
            yield subscription

    async def wait(self, name: str, pos: Pos) -> None:
        """Wait until a database has been brought to a position."""
        while name not in self.databases or self.databases[name].pos != pos:
            await self.moved.wait()
