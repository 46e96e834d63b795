"""Giving the lease away while this node is well, so that no acknowledged transaction is lost and no writer hangs.

In order:

    1.  The target has caught up, and the lease is renewed: there is time.
    2.  Commands that run on the primary only are asked to end, and waited for.
    3.  The gate is shut: commits wait in the last step before they are captured, their writers know nothing.
    4.  What is captured is published: durable, and committed in SQLite's own eyes.
    5.  The target is sent all of it, and so are the other candidates: one of them leads if the target fails now.
    6.  *The lease is given*: without an await this node stops being writable and the Handoff frame goes out.
    7.  The gate opens. Commits that waited look again whether they may, and fail as any write on a replica.

Whatever goes wrong before 6 opens the gate on a node that is still primary: the commits go on. After 6 this node never
uses the lease again, not even when the target does not take it: two holders of one lease would be two primaries.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING

import trio

from litefs.errors import LeaseError, LitefsError, StreamError
from litefs.leases import HandoffNotSupported, LeaseExpired
from litefs.replication.ending import Offer

if TYPE_CHECKING:
    from litefs.cluster.role import Role
    from litefs.cluster.tenure import Tenure
    from litefs.replication.peerstream import PeerStream
    from litefs.replication.server import StreamServer
    from litefs.store import Store

log = logging.getLogger(__name__)

PREPARE_LIMIT = 2.0
"""Seconds for the first step; commits go on meanwhile."""

GATE_LIMIT = 2.5
"""Seconds that commits wait for a lease to be given. In many languages SQLite waits 5 s for a lock by default."""

RESIGN_LIMIT = 8.0
"""Seconds after which no further candidate is tried or waited for; commits go on between two tries."""

LOOK_INTERVAL = 0.05
"""Seconds between two looks for a candidate that is on its way."""

OTHERS_LIMIT = 0.5
"""Seconds of those for the candidates that are not the target."""

FLUSH_LIMIT = 1.0
"""Seconds that commits wait for replicas to be sent everything before the lease is released."""

LAST_FLUSH_LIMIT = 5.0
"""The same where there are candidates that could not be given the lease: what they are not sent may be lost."""


class Handover:
    """Ways out of being primary.

    Args:
        store: whose gate is shut meanwhile.
        role: for the commands that run on the primary.
        streams: how other nodes are reached.
        lease_type: for messages.
        stop_leading: makes this node not the primary, at once.
        node: this node, for the log.
        reachable: whether another candidate answers, of those that are not at one of these URLs.
    """

    def __init__(
        self,
        store: Store,
        role: Role,
        streams: StreamServer,
        lease_type: str,
        stop_leading: Callable[[], None],
        node: str,
        reachable: Callable[[Collection[str]], Awaitable[bool]],
    ) -> None:
        self._store = store
        self._role = role
        self._streams = streams
        self._lease_type = lease_type
        self._stop_leading = stop_leading
        self._node = node
        self._reachable = reachable

    async def give(self, tenure: Tenure, node_id: int) -> None:
        """Hand the lease over to a connected node.

        Raises:
            LeaseError, StreamError: it was not given; this node is still primary, unless the lease is over.
        """
        if not tenure.lease.supports_handoff:
            raise HandoffNotSupported(self._lease_type)
        await self._prepare(tenure, node_id)
        async with self._role.yielding():
            await self._give(tenure, node_id)

    async def _give(self, tenure: Tenure, node_id: int) -> None:
        def give() -> None:
            if not self._store.writable:
                raise LeaseExpired("the lease ran out before it could be given")
            tenure.given = True
            self._stop_leading()

        with self._store.gate.shut(), trio.move_on_after(GATE_LIMIT):
            await self._store.all_published()
            with trio.move_on_after(OTHERS_LIMIT):
                await self._streams.all_sent()
            await self._streams.hand_over(node_id, Offer(tenure.lease.id, give))
        if not tenure.given:
            raise StreamError(f"the target could not be sent everything within {GATE_LIMIT:g} s: nothing has changed")

    async def _prepare(self, tenure: Tenure, node_id: int) -> None:
        stream = self._streams.peers.get(node_id)
        if stream is None:
            raise LeaseError("target node is not currently connected")
        if not stream.complete:
            raise LeaseError("target node replicates only some of the databases")
        with trio.move_on_after(PREPARE_LIMIT) as limit:
            await stream.live.wait()
            await tenure.renew()
        if limit.cancelled_caught:
            what = "the lease could not be renewed" if stream.live.is_set() else "the target has not caught up"
            raise StreamError(f"{what} within {PREPARE_LIMIT:g} s")

    async def resign(self, tenure: Tenure) -> None:
        """Stop being primary: the most advanced candidate gets the lease; where none takes it, it is free.

        Candidates that have just lost their stream, or have not caught up, are waited for: what this node has captured
        and nobody else has would be lost from the cluster.
        """
        limit = LAST_FLUSH_LIMIT if tenure.lease.supports_handoff and await self._offer(tenure) else FLUSH_LIMIT
        if not tenure.given and self._role.is_primary:
            async with self._role.yielding():
                await self._give_up(limit)

    async def _offer(self, tenure: Tenure) -> bool:
        """Whether there were candidates; see `tenure.given` for whether one of them has it."""
        deadline = trio.current_time() + RESIGN_LIMIT
        tried: set[int] = set()
        while self._role.is_primary and (stream := await self._next_candidate(tried, deadline)) is not None:
            tried.add(stream.number)
            try:
                await self.give(tenure, stream.peer_id)
                break
            except LitefsError as error:
                log.warning("%s: cannot hand over to node %016X: %s", self._node, stream.peer_id, error)
        return bool(tried)

    async def _next_candidate(self, tried: Collection[int], deadline: float) -> PeerStream | None:
        """A stream that was not tried; one that failed has ended, and its peer connects again."""
        while trio.current_time() < deadline:
            for stream in self._streams.candidates:
                if stream.number not in tried:
                    return stream
            if not await self._is_hope(tried):
                return None
            await trio.sleep(LOOK_INTERVAL)
        return None

    async def _is_hope(self, tried: Collection[int]) -> bool:
        settled = []
        for stream in self._streams.peers.values():
            if stream.member is None or stream.ending:
                continue
            if stream.may_come and stream.number not in tried:
                return True
            settled.append(stream.member.advertise_url)
        return await self._reachable(settled)

    async def _give_up(self, limit: float) -> None:
        with self._store.gate.shut():
            with trio.move_on_after(limit) as flushing:
                await self._store.all_published()
                await self._streams.flush_all()
            if flushing.cancelled_caught:
                text = (
                    "%s: not every replica could be sent everything within %g s: what is only here is kept as a branch"
                )
                log.warning(text + " if another node becomes primary, see: litefs branches list", self._node, limit)
            self._stop_leading()
