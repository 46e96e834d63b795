"""A lease backend in memory, a follower that does as it is told, and a node made of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import trio

from litefs.cluster.machine import RoleMachine
from litefs.cluster.role import Role
from litefs.errors import StreamError
from litefs.leases import LeaseExpired, LeaseHeld, LeaseUnavailable, PrimaryInfo
from litefs.replication.server import StreamServer
from tests.replication.fakes import FakeStore


class Backend:
    """Who holds the lease, for all nodes of a test."""

    def __init__(self, ttl: float = 10) -> None:
        self.ttl = ttl
        self.cluster_id: str | None = None
        self.holder: FakeLease | None = None
        self.down = False
        self.hanging = False
        self.sessions = 0

    async def reach(self) -> None:
        """Fail or hang as the test wants it."""
        await trio.lowlevel.checkpoint()
        if self.hanging:
            await trio.sleep_forever()
        if self.down:
            raise LeaseUnavailable("backend is down")
        if self.holder is not None and trio.current_time() > self.holder.until:
            self.holder = None


class FakeLease:
    """A hold on the lease."""

    supports_handoff = True

    def __init__(self, leaser: FakeLeaser, session: str) -> None:
        self.leaser = leaser
        self.id = session
        self.ttl = leaser.backend.ttl
        self.until = trio.current_time() + self.ttl
        self.renewed: list[float] = []

    async def renew(self) -> None:
        """As the contract says."""
        backend = self.leaser.backend
        await backend.reach()
        if backend.holder is None or backend.holder.id != self.id:
            raise LeaseExpired("session is gone")
        self.renewed.append(trio.current_time())
        self.until = trio.current_time() + self.ttl

    async def release(self) -> None:
        """As the contract says."""
        backend = self.leaser.backend
        await backend.reach()
        if backend.holder is self:
            backend.holder = None


class FakeLeaser:
    """One node's access to the backend."""

    type = "fake"

    def __init__(self, backend: Backend, hostname: str) -> None:
        self.backend = backend
        self.hostname = hostname
        self.advertise_url = f"http://{hostname}:20202"
        self.change = trio.Event()

    async def primary(self) -> PrimaryInfo | None:
        await self.backend.reach()
        holder = self.backend.holder
        return PrimaryInfo(holder.leaser.hostname, holder.leaser.advertise_url) if holder else None

    async def acquire(self) -> FakeLease:
        held = await self.primary()
        if held is not None:
            raise LeaseHeld(held)
        self.backend.sessions += 1
        self.backend.holder = FakeLease(self, f"session-{self.backend.sessions}")
        return self.backend.holder

    async def acquire_existing(self, lease_id: str) -> FakeLease:
        await self.backend.reach()
        if self.backend.holder is None or self.backend.holder.id != lease_id:
            raise LeaseExpired("no such session")
        self.backend.holder = FakeLease(self, lease_id)
        return self.backend.holder

    async def cluster_id(self) -> str | None:
        await self.backend.reach()
        return self.backend.cluster_id

    async def set_cluster_id(self, cluster_id: str) -> None:
        await self.backend.reach()
        self.backend.cluster_id = cluster_id

    async def wait_change(self) -> None:
        await self.change.wait()
        self.change = trio.Event()

    async def aclose(self) -> None:
        """Nothing."""


class FakeFollower:
    """Streams over method calls: finds the other nodes of the test by URL."""

    def __init__(self, node: Node, nodes: dict[str, Node]) -> None:
        self.node, self.nodes = node, nodes
        self.cut = trio.Event()

    async def follow(self, url: str) -> str | None:
        peer = self.nodes.get(url)
        await trio.lowlevel.checkpoint()
        if peer is None or not peer.store.writable:
            raise StreamError("invalid response: code=503 lease expired")
        self.node.store.cluster_id = self.node.store.cluster_id or peer.store.cluster_id
        stream = await peer.streams.stream(bytes(4), None, self.node.store.node_id)
        return await self._read(stream)

    async def _read(self, stream: Any) -> str | None:
        from litefs.replication.frames import End, FrameParser, Handoff, Heartbeat, Ready

        lease_id, parser = None, FrameParser()
        try:
            async for piece in stream:
                for frame in parser.feed(piece):
                    if isinstance(frame, Ready):
                        self.node.role.caught_up()
                    elif isinstance(frame, Heartbeat):
                        self.node.role.heartbeat(frame.timestamp_ms)
                    elif isinstance(frame, Handoff):
                        lease_id = frame.lease_id
                    elif isinstance(frame, End):
                        return lease_id
        finally:
            await stream.aclose()
        raise StreamError("connection lost")

    async def request_handoff(self, url: str) -> None:
        await self.nodes[url].machine.handoff(self.node.store.node_id)


class Node:
    """One member of a cluster."""

    def __init__(self, path: Path, nodes: dict[str, Node], leaser: FakeLeaser, *, candidate: bool = True) -> None:
        number = len(nodes) + 1
        self.leaser = leaser
        self.store = FakeStore(path / leaser.hostname, node_id=number)
        self.role = Role(leaser.hostname, candidate=candidate, events=self.store.events, now=trio.current_time)
        self.streams = StreamServer(cast(Any, self.store), snapshot_limit=30, now=trio.current_time)
        self.follower = FakeFollower(self, nodes)
        self.machine = RoleMachine(
            cast(Any, self.store),
            self.role,
            cast(Any, leaser),
            self.streams,
            lambda: self.follower,
            clock=trio.current_time,
        )
        nodes[leaser.advertise_url] = self


class Cluster:
    """Nodes around one backend."""

    def __init__(self, path: Path, ttl: float = 10) -> None:
        self.path = path
        self.backend = Backend(ttl)
        self.nodes: dict[str, Node] = {}

    def node(self, name: str, *, candidate: bool = True) -> Node:
        return Node(self.path, self.nodes, FakeLeaser(self.backend, name), candidate=candidate)


async def until(condition: Callable[[], object], limit: float = 60) -> None:
    """Wait, in virtual time."""
    with trio.fail_after(limit):
        while not condition():
            await trio.sleep(0.05)
