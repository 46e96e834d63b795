"""What this node is in its cluster right now, for everyone who shows it or waits for it."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from litefs.leases import PrimaryInfo
from litefs.store.events import EventHub, PrimaryChangeEvent

log = logging.getLogger(__name__)

YIELD_LIMIT = 5.0
"""Seconds that a hand-over waits for commands which run on the primary. Commits go on meanwhile."""


class Role:
    """Primary, replica of a known primary, or neither.

    Changed by `litefs.cluster.machine` and the replication client only; each change is published as an event.

    Attributes:
        is_primary: whether this node holds the lease.
        candidate: whether it may become primary.
        primary: the remote primary, from the moment a connection to it is attempted until it is lost; None on the
            primary itself and while there is none.
        synced: set once this node has everything that its present primary had when it connected; new for each.
        ready: set once the node has become primary, or has everything a primary had when it connected.
        conform: waits until no command of this node runs that should not, the role being what it is; set by the node.
        yielders: asked, too, before the role is given away: each waits until work that it began as the primary is done,
            for a time of its own choice.
        others: the other nodes of the cluster, as far as this one has heard of them; set by the node.
        announced: further keys of ``GET /status``, which parts of this node set; a function is asked for its value.
        last_heartbeat_ms: clock of the primary up to which everything has been applied, ms since the epoch; None
            before the first heartbeat and after this node was primary.
    """

    def __init__(
        self, hostname: str, *, candidate: bool, events: EventHub, now: Callable[[], float] = time.time
    ) -> None:
        self.hostname = hostname
        self.candidate = candidate
        self.is_primary = False
        self.primary: PrimaryInfo | None = None
        self.ready = trio.Event()
        self.yielders: list[Callable[[], Awaitable[None]]] = []
        self.others: Callable[[], Sequence[PrimaryInfo]] = tuple
        self.announced: dict[str, object] = {}
        self.synced = trio.Event()
        self.last_heartbeat_ms: int | None = None
        self._events = events
        self._now = now
        self.conform: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self._caught_up = False
        self._yielding = 0
        self._changed = trio.Event()

    @property
    def primary_hostname(self) -> str | None:
        """Name of the primary, this node included; None when there is none."""
        if self.is_primary:
            return self.hostname
        return self.primary.hostname if self.primary is not None else None

    def lag_ms(self) -> int | None:
        """Milliseconds that this node is behind the primary's clock; 0 on the primary, None when not known."""
        if self.is_primary:
            return 0
        if self.last_heartbeat_ms is None:
            return None
        return int(self._now() * 1000) - self.last_heartbeat_ms

    async def wait_change(self) -> None:
        """Wait until this node gains or loses the primary role, begins or ceases to yield, or learns of a primary."""
        await self._changed.wait()

    @property
    def is_yielding(self) -> bool:
        """Whether this node is about to give the primary role away; it still can write."""
        return self._yielding > 0

    @asynccontextmanager
    async def yielding(self) -> AsyncIterator[None]:
        """Give the role away inside the block: commands that run on the primary have ended, or had their time to.

        If nothing comes of it, they are started again.
        """
        self._yielding += 1
        self._wake()
        try:
            with trio.move_on_after(YIELD_LIMIT) as limit:
                await self.conform()
                for wait in list(self.yielders):
                    await wait()
            if limit.cancelled_caught:
                text = "commands that run on the primary have not ended within %g s, handing over without them"
                log.warning(text, YIELD_LIMIT)
            yield
        finally:
            self._yielding -= 1
            self._wake()

    # ------------------------------------------------------------------------------------------------- transitions

    def lead(self) -> None:
        """This node has become primary."""
        self._set(is_primary=True, primary=None)
        self.ready.set()

    def follow(self, primary: PrimaryInfo | None) -> None:
        """This node is a replica of that primary, or of none for now."""
        if self.is_primary:
            self.last_heartbeat_ms = None
        self._caught_up = False
        self.synced = trio.Event()
        self._set(is_primary=False, primary=primary)

    def _set(self, *, is_primary: bool, primary: PrimaryInfo | None) -> None:
        if (is_primary, primary) == (self.is_primary, self.primary):
            return
        self.is_primary, self.primary = is_primary, primary
        self._wake()
        self._events.publish(PrimaryChangeEvent(is_primary, primary.hostname if primary else None))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # ------------------------------------------------------------------------------- told by the replication client

    def caught_up(self) -> None:
        """Everything that existed when the stream began has been applied."""
        self._caught_up = True

    def heartbeat(self, timestamp_ms: int) -> None:
        """Everything up to this time on the primary's clock has been applied."""
        self.last_heartbeat_ms = timestamp_ms
        if self._caught_up:
            self.ready.set()
            self.synced.set()
