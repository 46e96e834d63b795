"""The contract of `litefs.leases`, on a `Register`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import trio

from litefs.leases import BaseLeaser, ClusterIDConflict, LeaseExpired, LeaseHeld, PrimaryInfo
from litefs_lease_sample.register import Record, Register

T = TypeVar("T")
Change = Callable[[Record], Record]


class SampleLease:
    """This node's hold."""

    supports_handoff = True

    def __init__(self, leaser: SampleLeaser, lease_id: str, ttl: float) -> None:
        self.id = lease_id
        self.ttl = ttl
        self._leaser = leaser

    async def renew(self) -> None:
        """Hold for another ttl.  Raises LeaseExpired, LeaseUnavailable."""
        await self._leaser.prolong(self.id, mine=True)

    async def release(self) -> None:
        """Give it up; harmless when it is over.  Raises LeaseUnavailable."""
        await self._leaser.drop(self.id)


class SampleLeaser(BaseLeaser):
    """A node's access to the lease.

    Args:
        register: the shared place.
        hostname, advertise_url: this node, as it is announced.
        ttl: seconds for which a lease holds without renewal.
        skew: seconds by which the clocks of nodes may differ.
        clock: the wall clock.
    """

    type = "sample"

    def __init__(
        self,
        register: Register,
        hostname: str,
        advertise_url: str,
        *,
        ttl: float,
        skew: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(hostname, advertise_url)
        self._register = register
        self._ttl = ttl
        self._skew = skew
        self._clock = clock

    async def primary(self) -> PrimaryInfo | None:
        """Who holds it.  Raises LeaseUnavailable."""
        _, record = await _in_thread(self._register.read)
        return record.holder if self._held(record) else None

    async def acquire(self) -> SampleLease:
        """Take it.  Raises LeaseHeld, LeaseUnavailable."""
        lease_id = secrets.token_hex(8)

        def take(record: Record) -> Record:
            if self._held(record):
                raise LeaseHeld(record.holder)
            return self._hold(record, lease_id)

        await self._change(take)
        return SampleLease(self, lease_id, self._ttl)

    async def acquire_existing(self, lease_id: str) -> SampleLease:
        """Take over what its holder hands on.  Raises LeaseExpired, LeaseUnavailable."""
        await self.prolong(lease_id, mine=False)
        return SampleLease(self, lease_id, self._ttl)

    async def cluster_id(self) -> str | None:
        """The stored id.  Raises LeaseUnavailable."""
        _, record = await _in_thread(self._register.read)
        return record.cluster_id or None

    async def set_cluster_id(self, cluster_id: str) -> None:
        """Store the id.  Raises ClusterIDConflict, LeaseUnavailable."""

        def store(record: Record) -> Record:
            if record.cluster_id not in ("", cluster_id):
                raise ClusterIDConflict(record.cluster_id)
            return replace(record, cluster_id=cluster_id)

        await self._change(store)

    async def prolong(self, lease_id: str, *, mine: bool) -> None:
        """Let the lease of that id last for another ttl; only while it is this node's, if ``mine``.

        Raises LeaseExpired, LeaseUnavailable.
        """

        def hold(record: Record) -> Record:
            if record.id != lease_id or not self._held(record) or (mine and record.holder != self.info):
                raise LeaseExpired("the lease is over")
            return self._hold(record, lease_id)

        await self._change(hold)

    async def drop(self, lease_id: str) -> None:
        """Free the lease of that id, if it is still this node's.  Raises LeaseUnavailable."""

        def free(record: Record) -> Record:
            ours = (record.id, record.holder) == (lease_id, self.info)
            return Record(cluster_id=record.cluster_id) if ours else record

        await self._change(free)

    def _hold(self, record: Record, lease_id: str) -> Record:
        expires = self._clock() + self._ttl
        return replace(record, id=lease_id, hostname=self.hostname, advertise_url=self.advertise_url, expires=expires)

    def _held(self, record: Record) -> bool:
        return bool(record.id) and self._clock() < record.expires + self._skew

    async def _change(self, change: Change) -> None:
        """Replace the record by what `change` makes of it, again until nobody else was faster."""
        while True:
            version, before = await _in_thread(self._register.read)
            after = change(before)
            if after == before or await _in_thread(partial(self._register.swap, version, after)):
                return


async def _in_thread(call: Callable[[], T]) -> T:
    # A backend that hangs must not hang the node: the call is left behind, and what it may still take runs out.
    return await trio.to_thread.run_sync(call, abandon_on_cancel=True)
