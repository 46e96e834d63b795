"""The primary's side of replication: which streams are open, and how they come to their end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import trio

from litefs.errors import ReadOnly, StreamError
from litefs.replication import posmap
from litefs.replication.ending import Offer
from litefs.replication.peerstream import PeerStream

if TYPE_CHECKING:
    from litefs.replication.members import Member
    from litefs.store import Store

SENT_INTERVAL = 0.005
"""Seconds between two looks whether replicas have been sent everything."""


class StreamServer:
    """Opens streams and knows those that are open.

    Args:
        store: the databases; its `writable` says whether this node is the primary.
        snapshot_limit: seconds one snapshot may take, from the request for it to its last byte.
        now: clock for heartbeats, in seconds since the epoch.

    Attributes:
        joined: called with each peer that introduces itself.
        open: the streams; each enters and leaves by itself.
        term: under which this node leads; 0 before it has.
        announcement: what such peers are told about the nodes of the cluster, as `members.encode` has it.
        unsettled: whether databases are still missing here, so that no peer must believe that it has them all.
    """

    def __init__(self, store: Store, *, snapshot_limit: float, now: Callable[[], float] = time.time) -> None:
        self.store = store
        self.snapshot_limit = snapshot_limit
        self.now = now
        self.frames_sent: Counter[tuple[str, str]] = Counter()
        self.joined: Callable[[Member], None] = lambda member: None
        self.announcement = b""
        self.unsettled: Callable[[], bool] = lambda: False
        self.term = 0
        self.open: set[PeerStream] = set()

    def __len__(self) -> int:
        """Streams that are open: replicas, as far as this node knows."""
        return len(self.open)

    @property
    def peers(self) -> dict[int, PeerStream]:
        """The newest open stream of each node id."""
        return {stream.peer_id: stream for stream in sorted(self.open, key=lambda stream: stream.number)}

    @property
    def candidates(self) -> list[PeerStream]:
        """Peers that may become primary and have caught up, the most advanced first."""
        found = [stream for stream in self.peers.values() if stream.may_lead]
        return sorted(found, key=lambda stream: (stream.transactions, stream.peer_id), reverse=True)

    async def stream(
        self,
        request_body: bytes,
        names: Collection[str] | None,
        peer_id: int,
        member: Member | None = None,
        *,
        tell_term: bool = False,
    ) -> PeerStream:
        """Start a stream; iterate over it for the response body and `aclose` it whatever happens.

        Args:
            request_body: the position map.
            names: databases to send, None for all.
            peer_id: the replica's node id, 0 when it did not say.
            member: how it introduced itself.
            tell_term: whether the peer knows what a term is.

        Raises:
            ReadOnly: this node is not the primary (503).
            StreamError: the map is bad, or the peer is this node itself (400).
        """
        if peer_id and peer_id == self.store.node_id:
            raise StreamError("cannot connect to self")
        if not self.store.writable:
            raise ReadOnly("lease expired")
        if len(request_body) <= posmap.INLINE:
            positions = posmap.decode(request_body)
        else:
            positions = await trio.to_thread.run_sync(posmap.decode, request_body)
        stream = PeerStream(self, positions, names, peer_id, member, term=self.term if tell_term else 0)
        if member is not None:
            self.joined(member)
        return stream

    def announce(self, message: bytes) -> None:
        """Tell peers about the nodes of the cluster, if that is news."""
        if message != self.announcement:
            self.announcement = message
            for stream in self.open:
                stream.wake()

    def end_all(self) -> None:
        """End every stream: this node is no longer the primary. Returns at once."""
        for stream in list(self.open):
            stream.end()

    async def all_sent(self) -> None:
        """Return when every candidate that has caught up before has been sent everything that is published."""
        while any(stream.may_lead and not stream.sent for stream in self.peers.values()):
            await trio.sleep(SENT_INTERVAL)

    async def flush_all(self) -> None:
        """End every stream after it has sent everything that is published; returns when all have ended."""
        streams = list(self.open)
        for stream in streams:
            stream.flush()
        for stream in streams:
            await stream.closed.wait()

    async def hand_over(self, peer_id: int, offer: Offer) -> None:
        """Send a peer everything that is published and then the lease; returns when it has been given.

        When it is not given, or this is cancelled before, the peer's stream ends and it has to connect again.

        Raises:
            StreamError: no such node is connected, or its stream ended first, or some database could not be sent.
        """
        stream = self.peers.get(peer_id)
        if stream is None:
            raise StreamError("target node is not currently connected")
        stream.offer(offer)
        try:
            await stream.settled.wait()
        finally:
            if not offer.given:
                stream.end()
        if not offer.given:
            raise StreamError("the target could not be sent everything before the lease")
