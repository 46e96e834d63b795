"""A proxy, an application and clients in one process, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import litefs_proxy_fly as plugin
import trio
from litefs_proxy_fly.service import FlyProxy

from litefs.cluster.role import Role
from litefs.errors import DatabaseNotFound
from litefs.leases import PrimaryInfo
from litefs.ltx import Pos
from litefs.store.events import EventHub
from litefs.store.ltxdir import LTXDir
from litefs.store.trail import Trail
from litefs.testing import node_info, proxy_config

from .nodes import free_port

Handler = Callable[[trio.SocketStream], Awaitable[None]]
LIMIT = 20.0  # seconds a test may take at most


class FakeDatabase:
    """A database's position."""

    def __init__(self, txid: int, checksum: int = 0) -> None:
        self.pos = Pos(txid, checksum)
        self.moved = trio.Event()
        self.trail = Trail(LTXDir(Path("nowhere")), lambda: self.pos)
        self.trail.note(self.pos)

    def move(self, txid: int, checksum: int = 0) -> None:
        self.pos = Pos(txid, checksum)
        self.trail.note(self.pos)
        self.moved.set()
        self.moved = trio.Event()


class FakeStore:
    """The part of a store that the proxy looks at."""

    def __init__(self) -> None:
        self.writable = True
        self.refused = 0
        self.node_id = 1
        self.databases: dict[str, FakeDatabase] = {}

    def opened(self, name: str) -> FakeDatabase | None:
        return self.databases.get(name)

    async def database(self, name: str) -> FakeDatabase:
        await trio.lowlevel.checkpoint()
        if name not in self.databases:
            raise DatabaseNotFound(name)
        return self.databases[name]


class Site:
    """What a test has to do with.

    Attributes:
        port: of the proxy.
        target: port where the application is expected.
        store, role: of the node.
        connections: that the application has accepted.
        nursery: for whatever a test runs beside it.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.port = free_port()
        self.target = free_port()
        self.store = FakeStore()
        self.role = Role("one", candidate=True, events=EventHub())
        self.role.lead()
        self.connections = 0
        http = SimpleNamespace(tls_ca="", tls_cert="", tls_key="", secure=False, auth_token="")
        data = SimpleNamespace(retention=600.0, retention_monitor_interval=60.0)
        self.config = SimpleNamespace(http=http, data=data, lease=SimpleNamespace(advertise_url="http://127.0.0.1:1"))
        self.proxy: FlyProxy

    async def application(self, handler: Handler, path: Path | None = None) -> None:
        """Start the application, on a socket of that path or a port."""

        async def accept(stream: trio.SocketStream) -> None:
            self.connections += 1
            try:
                async with stream:
                    await handler(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        if path is None:
            listeners = await trio.open_tcp_listeners(self.target, host="127.0.0.1")
        else:
            sock = trio.socket.socket(trio.socket.AF_UNIX)
            await sock.bind(str(path))
            sock.listen()
            listeners = [trio.SocketListener(sock)]
        self.nursery.start_soon(trio.serve_listeners, accept, listeners)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Everything that the proxy says until it closes the connection."""
        async with await self.connect() as stream:
            await stream.send_all(data)
            if half_close:
                await stream.send_eof()
            return await rest(stream)

    def follow(self, hostname: str = "two") -> None:
        """Be a replica."""
        self.store.writable = False
        self.role.follow(PrimaryInfo(hostname, "http://two:20202"))

    async def stop(self) -> None:
        """Have the proxy leave."""
        await self.proxy.leave(self._ended)

    _ended: trio.Event

    async def run(self, config: dict[str, Any], task_status: trio.TaskStatus[None]) -> None:
        section = {"addr": f"127.0.0.1:{self.port}", "target": f"127.0.0.1:{self.target}", "db": "db", **config}
        service = plugin.make(proxy_config(plugin, section), node_info())
        assert isinstance(service, FlyProxy)
        self.proxy, self._ended = service, trio.Event()
        node: Any = SimpleNamespace(store=self.store, role=self.role, config=self.config)
        try:
            await service.run(node, task_status=task_status)
        finally:
            self._ended.set()


@asynccontextmanager
async def proxied(handler: Handler | None = None, **config: Any) -> AsyncIterator[Site]:
    """A running proxy; `handler` is the application, keys of the section with underscores for dashes."""
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            site = Site(nursery)
            if handler is not None:
                await site.application(handler)
            await nursery.start(site.run, {key.replace("_", "-"): value for key, value in config.items()})
            yield site
            nursery.cancel_scope.cancel()


async def rest(stream: trio.SocketStream) -> bytes:
    """What comes until the end of the connection."""
    data = b""
    try:
        while piece := await stream.receive_some(1 << 16):
            data += piece
    except trio.BrokenResourceError:
        data += b"[reset]"
    return data


class Reader:
    """Reads a stream up to marks."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.data = b""

    async def until(self, mark: bytes) -> bytes:
        while mark not in self.data:
            piece = await self.stream.receive_some(1 << 16)
            assert piece, f"closed after {self.data!r}"
            self.data += piece
        found, _, self.data = self.data.partition(mark)
        return found + mark

    async def exactly(self, count: int) -> bytes:
        while len(self.data) < count:
            piece = await self.stream.receive_some(1 << 16)
            assert piece, f"closed after {self.data!r}"
            self.data += piece
        found, self.data = self.data[:count], self.data[count:]
        return found


async def echo(stream: trio.SocketStream) -> None:
    """An application that answers each request with the request itself."""
    reader = Reader(stream)
    while True:
        try:
            head = await reader.until(b"\r\n\r\n")
        except AssertionError:
            return
        body = b""
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                body = await reader.exactly(int(line[15:]))
            if line == b"transfer-encoding: chunked":
                body = await reader.until(b"\r\n\r\n")  # no test has an empty line in it
        said = head + body
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GET_CLOSE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
