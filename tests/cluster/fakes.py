"""A lease backend in memory, a follower that does as it is told, and a node made of both."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import trio

from litefs import ltx
from litefs.cluster.machine import RoleMachine
from litefs.cluster.members import Members as KnownMembers
from litefs.cluster.peers import PeerResponse
from litefs.cluster.role import Role
from litefs.cluster.term import Terms
from litefs.errors import LitefsError, StreamError
from litefs.leases import LeaseExpired, LeaseHeld, LeaseUnavailable, PrimaryInfo
from litefs.replication import members, posmap
from litefs.replication.frames import (
    End,
    FrameParser,
    Handoff,
    Heartbeat,
    LTXData,
    LTXEnd,
    LTXStart,
    Members,
    Ready,
    Term,
)
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

    def lost(self) -> None:
        """The holder is gone without a word: what it still says is not heard."""
        if self.holder is not None:
            gone, self.holder = self.holder, FakeLease(self.holder.leaser, f"{self.holder.id}, left over")
            self.holder.until = gone.until

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
        self.cut_off = False  # from the backend, only this node

    async def _reach(self) -> None:
        await self.backend.reach()
        if self.cut_off:
            raise LeaseUnavailable("this node cannot reach the backend")

    async def primary(self) -> PrimaryInfo | None:
        await self._reach()
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
        await self._reach()
        if self.backend.holder is None or self.backend.holder.id != lease_id:
            raise LeaseExpired("no such session")
        self.backend.holder = FakeLease(self, lease_id)
        return self.backend.holder

    async def cluster_id(self) -> str | None:
        await self._reach()
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
        self.reads = 0
        self.scope = trio.CancelScope()
        self.reason = ""
        self.deaf = False  # what is sent does not arrive
        self.away = False  # cannot reach anybody

    def cut(self, reason: str) -> None:
        self.reason = reason
        self.scope.cancel()

    async def follow(self, url: str) -> str | None:
        peer = self.nodes.get(url)
        await trio.lowlevel.checkpoint()
        if peer is None or self.away or not peer.store.writable:
            raise StreamError("invalid response: code=503 lease expired")
        self.node.store.cluster_id = self.node.store.cluster_id or peer.store.cluster_id
        positions = posmap.encode(await self.node.store.positions())
        node_id, introduction = self.node.store.node_id, self.node.machine.introduction
        stream = await peer.streams.stream(positions, None, node_id, introduction, tell_term=True)
        with trio.CancelScope() as self.scope:
            return await self._read(stream)
        raise StreamError(self.reason)

    async def _read(self, stream: Any) -> str | None:
        lease_id, receiver = None, Receiver(self.node)
        try:
            async for piece in stream:
                if self.deaf:
                    await trio.sleep_forever()
                self.reads += 1
                for frame in receiver.parser.feed(piece):
                    if isinstance(frame, Handoff):
                        lease_id = frame.lease_id
                    elif isinstance(frame, End):
                        return lease_id
                    else:
                        await receiver.take(frame)
        finally:
            await stream.aclose()
        raise StreamError("connection lost")


class Receiver:
    """Applies what a stream brings."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.parser = FrameParser()
        self.file: tuple[str, bytearray] = ("", bytearray())

    async def take(self, frame: object) -> None:
        match frame:
            case LTXStart(name):
                self.file = (name, bytearray())
            case LTXData(data):
                self.file[1].extend(data)
            case LTXEnd():
                await self._apply(*self.file)
            case Ready():
                self.node.role.caught_up()
            case Heartbeat(timestamp_ms):
                self.node.role.heartbeat(timestamp_ms)
            case Members(data):
                self.node.members.told(members.decode(data))
            case Term(term, whole):
                (self.node.terms.follow if whole else self.node.terms.heard)(term)

    async def _apply(self, name: str, data: bytearray) -> None:
        db = await self.node.store.database(name, create=True)
        path = db.ltx_dir.temporary()
        path.write_bytes(data)
        header, trailer = ltx.read_info(io.BytesIO(data))
        await db.apply_ltx(path, header, trailer, local=False)


class FakePeers:
    """Requests over method calls."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self.nodes = nodes
        self.asked: list[tuple[str, str]] = []

    async def request(self, method: str, url: str, path: str, *, timeout: float) -> PeerResponse:
        self.asked.append((url, path))
        await trio.lowlevel.checkpoint()
        peer = self.nodes.get(url)
        if peer is None or not peer.running:
            raise StreamError(f"cannot connect to {url}")
        if peer.hanging:
            await trio.sleep(timeout)
            raise StreamError(f"{url} does not answer")
        if path == "/info":
            return PeerResponse(200, {}, b"{}")
        if path.startswith("/status"):
            if "lease=free" in path:
                peer.machine.look()
            status = {
                "id": f"{peer.store.node_id:016X}",
                "clusterID": peer.store.cluster_id,
                "hostname": peer.leaser.hostname,
                "term": peer.terms.held,
                "eligible": peer.machine.eligible,
                "transactions": sum(pos.txid for pos in (await peer.store.positions()).values()),
            }
            return PeerResponse(200, {}, json.dumps(status).encode())
        try:
            await peer.machine.handoff(int(path.partition("=")[2], 16))
        except LitefsError as error:
            return PeerResponse(500, {}, f"cannot handoff: {error}\n".encode())
        return PeerResponse(200, {}, b"")


async def _in_this_thread(call: Callable[[], None]) -> None:
    """Another one would let the virtual clock run."""
    call()


class Node:
    """One member of a cluster."""

    def __init__(self, path: Path, nodes: dict[str, Node], leaser: FakeLeaser, *, candidate: bool = True) -> None:
        number = len(nodes) + 1
        self.leaser = leaser
        self.running = False
        self.ended = trio.Event()
        self.hanging = False
        self.store = FakeStore(path / leaser.hostname, node_id=number)
        self.role = Role(leaser.hostname, candidate=candidate, events=self.store.events, now=trio.current_time)
        self.streams = StreamServer(cast(Any, self.store), snapshot_limit=30, now=trio.current_time)
        self.follower = FakeFollower(self, nodes)
        self.peers = FakePeers(nodes)
        self.members = KnownMembers(self.store.data_dir / "members.json", lambda: self.machine.introduction)
        self.streams.joined = lambda member: self.members.learn([member])
        self.members.changed = lambda: self.streams.announce(self.members.announcement())
        self.terms = self.make_terms()
        self.machine = self.make_machine(leaser)
        nodes[leaser.advertise_url] = self

    def make_terms(self) -> Terms:
        """As after a restart."""
        return Terms(
            self.store.data_dir, lambda: self.store.cluster_id, now=trio.current_time, in_thread=_in_this_thread
        )

    def make_machine(self, leaser: Any) -> RoleMachine:
        return RoleMachine(
            cast(Any, self.store),
            self.role,
            leaser,
            self.streams,
            self.follower,
            peers=cast(Any, self.peers),
            members=self.members,
            terms=self.terms,
            clock=trio.current_time,
        )


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
