"""What this node is in its cluster right now, for everyone who shows it or waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from litefs.leases import PrimaryInfo
from litefs.store.events import EventHub, PrimaryChangeEvent


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
        self.synced = trio.Event()
        self.last_heartbeat_ms: int | None = None
        self._events = events
        self._now = now
        self._caught_up = False
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
        """Wait until this node gains or loses the primary role or learns of another primary."""
        await self._changed.wait()

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
        self._changed.set()
        self._changed = trio.Event()
        self._events.publish(PrimaryChangeEvent(is_primary, primary.hostname if primary else None))

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
