"""A lease backend in memory: several nodes of one test share it.  Its time is trio's, so a virtual clock works.

shared = SharedLease(ttl=10)
one, two = FakeLeaser(shared, "one"), FakeLeaser(shared, "two")
lease = await one.acquire()
shared.available = False   # the backend is down: every call raises LeaseUnavailable
shared.revoke()            # somebody deleted the lease
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import trio

from litefs.leases import (
    BaseLeaser,
    ClusterIDConflict,
    HandoffNotSupported,
    LeaseExpired,
    LeaseHeld,
    LeaseUnavailable,
    PrimaryInfo,
)


@dataclass
class _Hold:
    id: str
    info: PrimaryInfo
    expires: float


class SharedLease:
    """The place where nodes agree.

    Args:
        ttl: seconds for which a lease holds without renewal.
        supports_handoff: whether leases can be passed on.
    """

    def __init__(self, ttl: float = 10.0, *, supports_handoff: bool = True) -> None:
        self.ttl = ttl
        self.supports_handoff = supports_handoff
        self.available = True
        self.stored_cluster_id: str | None = None
        self._hold: _Hold | None = None
        self._ids = itertools.count(1)
        self._changed = trio.Event()

    def hold(self) -> _Hold | None:
        """The present hold, unless it ran out."""
        if self._hold and self._hold.expires <= trio.current_time():
            self._hold = None
        return self._hold

    def holder(self) -> PrimaryInfo | None:
        """Who holds it now."""
        held = self.hold()
        return held.info if held else None

    def revoke(self) -> None:
        """Take the lease away from its holder, as an operator could."""
        self._set(None)

    def check_available(self) -> None:
        """Raise LeaseUnavailable where the backend is down."""
        if not self.available:
            raise LeaseUnavailable("the fake lease backend is down")

    def take(self, info: PrimaryInfo) -> str:
        """The id of a new hold for a node.  Raises LeaseHeld."""
        held = self.hold()
        if held:
            raise LeaseHeld(held.info)
        lease_id = f"lease-{next(self._ids)}"
        self._set(_Hold(lease_id, info, trio.current_time() + self.ttl))
        return lease_id

    def keep(self, lease_id: str, info: PrimaryInfo) -> None:
        """Let a node's hold last for another ttl.  Raises LeaseExpired, also when it was handed on."""
        held = self.hold()
        if held and (held.id, held.info) != (lease_id, info):
            raise LeaseExpired("the lease is another node's")
        self.take_over(lease_id, info)

    def take_over(self, lease_id: str, info: PrimaryInfo) -> None:
        """Let the hold of that id last for another ttl, for the given node.  Raises LeaseExpired."""
        held = self.hold()
        if held is None or held.id != lease_id:
            raise LeaseExpired("the lease is over")
        self._set(_Hold(lease_id, info, trio.current_time() + self.ttl))

    def drop(self, lease_id: str, info: PrimaryInfo) -> None:
        """Give up a node's hold, if it is still there and was not handed on."""
        held = self.hold()
        if held and (held.id, held.info) == (lease_id, info):
            self._set(None)

    async def changed(self) -> None:
        """Return after the next change."""
        await self._changed.wait()

    def _set(self, hold: _Hold | None) -> None:
        moved = (self._hold and self._hold.info) != (hold and hold.info)
        self._hold = hold
        if moved:
            self._changed.set()
            self._changed = trio.Event()


class FakeLease:
    """A hold on a `SharedLease`."""

    def __init__(self, shared: SharedLease, lease_id: str, info: PrimaryInfo) -> None:
        self._shared = shared
        self._info = info
        self.id = lease_id
        self.ttl = shared.ttl
        self.supports_handoff = shared.supports_handoff

    async def renew(self) -> None:
        """Hold for another ttl.  Raises LeaseExpired, LeaseUnavailable."""
        await trio.lowlevel.checkpoint()
        self._shared.check_available()
        self._shared.keep(self.id, self._info)

    async def release(self) -> None:
        """Give it up.  Raises LeaseUnavailable."""
        await trio.lowlevel.checkpoint()
        self._shared.check_available()
        self._shared.drop(self.id, self._info)


class FakeLeaser(BaseLeaser):
    """A node's access to a `SharedLease`."""

    type = "fake"

    def __init__(self, shared: SharedLease, hostname: str, advertise_url: str = "") -> None:
        super().__init__(hostname, advertise_url or f"http://{hostname}:20202")
        self._shared = shared
        self._seen: PrimaryInfo | None = None

    async def primary(self) -> PrimaryInfo | None:
        """Who holds it.  Raises LeaseUnavailable."""
        await self._reach()
        self._seen = self._shared.holder()
        return self._seen

    async def acquire(self) -> FakeLease:
        """Take it.  Raises LeaseHeld, LeaseUnavailable."""
        await self._reach()
        return FakeLease(self._shared, self._shared.take(self.info), self.info)

    async def acquire_existing(self, lease_id: str) -> FakeLease:
        """Take over what its holder hands on.  Raises HandoffNotSupported, LeaseExpired, LeaseUnavailable."""
        await self._reach()
        if not self._shared.supports_handoff:
            raise HandoffNotSupported(self.type)
        self._shared.take_over(lease_id, self.info)
        return FakeLease(self._shared, lease_id, self.info)

    async def cluster_id(self) -> str | None:
        """The stored id.  Raises LeaseUnavailable."""
        await self._reach()
        return self._shared.stored_cluster_id

    async def set_cluster_id(self, cluster_id: str) -> None:
        """Store the id.  Raises ClusterIDConflict, LeaseUnavailable."""
        await self._reach()
        stored = self._shared.stored_cluster_id
        if stored not in (None, cluster_id):
            raise ClusterIDConflict(str(stored))
        self._shared.stored_cluster_id = cluster_id

    async def wait_change(self) -> None:
        """Return when the holder is not whom `primary` found; a lease that runs out is found by polling."""
        await trio.lowlevel.checkpoint()
        seen = self._seen
        while self._shared.holder() == seen:
            await self._shared.changed()
        self._seen = self._shared.holder()

    async def _reach(self) -> None:
        await trio.lowlevel.checkpoint()
        self._shared.check_available()
