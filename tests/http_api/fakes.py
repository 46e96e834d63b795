"""A node in memory: as much of the store, the role and the replication server as the API uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from litefs.errors import DatabaseNotFound, LeaseError
from litefs.http.services import Services
from litefs.ltx import Pos
from litefs.replication import posmap
from litefs.replication.members import Member
from litefs.store.counters import Counters
from litefs.store.events import EventHub, TxEvent
from litefs.store.names import check_name
from litefs.store.subscription import Subscriptions

NODE_ID = 0x00000000DEADBEEF
CLUSTER_ID = "LFSC0123456789ABCDEF"


class FakeLTXDir:
    last_size = 120
    reaped = 2

    def __len__(self) -> int:
        return 3


class FakeDisk:
    failed = False


class FakeSnapshot:
    """Pages of an image; `pages` is what the test makes of it."""

    def __init__(self, image: bytes, page_size: int) -> None:
        self.image = image
        self.page_size = page_size
        self.commit = len(image) // page_size

    def pages(self, batch: int = 256) -> Iterator[tuple[int, bytes]]:
        step = batch * self.page_size
        for at in range(0, len(self.image), step):
            yield at // self.page_size + 1, self.image[at : at + step]


class FakeDatabase:
    def __init__(self, name: str) -> None:
        self.name = name
        self.image = b""
        self.page_size = 4096
        self.pos = self.published = Pos(0, 0)
        self.counters = Counters()
        self.ltx_dir = FakeLTXDir()
        self.disk = FakeDisk()
        self.snapshots = 0
        self.make_snapshot: Callable[[bytes, int], FakeSnapshot] = FakeSnapshot

    @property
    def commit(self) -> int:
        return len(self.image) // self.page_size

    async def import_database(self, source: Path) -> Pos:
        self.image = await trio.to_thread.run_sync(source.read_bytes)
        self.pos = self.published = Pos(self.pos.txid + 1, 1 << 63 | 5)
        self.counters.commits += 1
        return self.pos

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[FakeSnapshot]:
        self.snapshots += 1
        try:
            yield self.make_snapshot(self.image, self.page_size)
        finally:
            self.snapshots -= 1


class FakeStore:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.node_id = NODE_ID
        self.cluster_id = CLUSTER_ID
        self.writable = True
        self.events = EventHub()
        self.subscriptions = Subscriptions()
        self.databases: dict[str, FakeDatabase] = {}

    def names(self) -> list[str]:
        return sorted(self.databases)

    def open_databases(self) -> list[FakeDatabase]:
        return list(self.databases.values())

    async def database(self, name: str, *, create: bool = False) -> FakeDatabase:
        check_name(name)
        if name not in self.databases:
            if not create:
                raise DatabaseNotFound(name)
            self.databases[name] = FakeDatabase(name)
        return self.databases[name]

    def commit(self, name: str, txid: int) -> None:
        """Publish the event of a transaction."""
        self.events.publish(TxEvent(name, txid, 1 << 63 | 7, 4096, 2, 1_700_000_000_123))


@dataclass
class FakePrimary:
    hostname: str


@dataclass
class FakeRole:
    is_primary: bool = True
    candidate: bool = True
    primary: FakePrimary | None = None
    primary_hostname: str | None = "node-a"
    lag: int | None = 0

    def lag_ms(self) -> int | None:
        return self.lag


class FakeStream:
    """Endless pieces, unless the test says otherwise."""

    def __init__(self, server: FakeStreams) -> None:
        self._server = server
        server.open += 1

    def __aiter__(self) -> FakeStream:
        return self

    async def __anext__(self) -> bytes:
        if self._server.pieces is None:
            await trio.sleep_forever()
            raise AssertionError
        if not self._server.pieces:
            raise StopAsyncIteration
        return self._server.pieces.pop(0)

    async def aclose(self) -> None:
        self._server.open -= 1


@dataclass
class FakeStreams:
    pieces: list[bytes] | None = None
    open: int = 0
    asked: list[tuple[bytes, Collection[str] | None, int]] = field(default_factory=list)
    peers: dict[int, object] = field(default_factory=dict)
    frames_sent: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __len__(self) -> int:
        return self.open

    async def stream(
        self,
        request_body: bytes,
        names: Collection[str] | None,
        peer_id: int,
        member: Member | None = None,
        *,
        tell_term: bool = False,
    ) -> FakeStream:
        self.asked.append((request_body, names, peer_id))
        posmap.decode(request_body)
        return FakeStream(self)


@dataclass
class FakeLeadership:
    promotions: int = 0
    looks: int = 0
    demotions: list[int | None] = field(default_factory=list)
    error: str = ""

    async def promote(self) -> None:
        self.promotions += 1
        if self.error:
            raise LeaseError(self.error)

    async def handoff(self, node_id: int) -> None:
        raise LeaseError("static lease does not support handoff")

    def look(self) -> None:
        self.looks += 1

    async def demote(self, node_id: int | None = None) -> None:
        self.demotions.append(node_id)
        if self.error:
            raise LeaseError(self.error)


async def fake_status(*, databases: bool = True) -> dict[str, object]:
    return {"role": "primary", "databases": {"my\udcff.db": {}}} if databases else {"role": "primary"}


class FakeNode:
    """All of it, as `Services`."""

    def __init__(self, data_dir: Path) -> None:
        self.store = FakeStore(data_dir)
        self.role = FakeRole()
        self.streams = FakeStreams()
        self.leadership = FakeLeadership()
        self.reason = ""
        self.services = Services(
            store=self.store,  # type: ignore[arg-type]
            role=self.role,
            streams=self.streams,
            leadership=self.leadership,
            status=fake_status,
            halts=None,  # type: ignore[arg-type]
            not_ready=lambda: self.reason,
        )

    def become_replica(self, hostname: str = "node-a") -> None:
        self.store.writable = False
        self.role.is_primary, self.role.candidate = False, False
        self.role.primary, self.role.primary_hostname = FakePrimary(hostname), hostname

    def add(self, name: str, image: bytes, page_size: int = 4096) -> FakeDatabase:
        db = self.store.databases[name] = FakeDatabase(name)
        db.image, db.page_size = image, page_size
        db.pos = db.published = Pos(7, 1 << 63 | 9)
        return db
