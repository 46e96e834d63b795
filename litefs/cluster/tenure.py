"""One time as primary: a lease, and until when it counts."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from litefs.leases import FOREVER, Lease, LeaseExpired, LeaseUnavailable

if TYPE_CHECKING:
    from litefs.cluster.kept import KeptLease
    from litefs.store import Store

log = logging.getLogger(__name__)

RENEW_RETRY = 1.0
"""Seconds between tries to renew a lease whose backend does not answer."""

LOOK = 1.0
"""Seconds after which the clock is looked at again: it goes on while the machine is suspended, trio's does not."""

DOUBT_PAUSE = 0.1
"""Seconds between two renewals that a backend asks for by saying that something has changed."""


class Tenure:
    """A lease that this node has, and the right to write that comes with it.

    Args:
        lease: what was acquired.
        started: when the request that got it was sent, by `clock`: its time counts from there.
        store: is told until when it may be written.
        clock: seconds that also pass while the machine is suspended.
        node: this node, for the log.
        kept: where the lease is remembered while this node leads.
        wait_change: returns when the lease may be lost; then it is renewed at once, to find out.

    Attributes:
        until: time of `clock` at which the lease is over unless it is renewed; infinite where it needs no renewal.
        given: whether the lease was handed to another node: from then on it is not this node's to use, nor to renew.
    """

    def __init__(
        self,
        lease: Lease,
        started: float,
        store: Store,
        clock: Callable[[], float],
        node: str,
        kept: KeptLease,
        wait_change: Callable[[], Awaitable[None]] = trio.sleep_forever,
    ) -> None:
        self.lease = lease
        self.until = started + lease.ttl
        self.given = False
        self._started = started
        self._store = store
        self._clock = clock
        self._node = node
        self._kept = kept
        self._wait_change = wait_change
        self._doubt = trio.Event()
        self._writable = False
        self._renewing = trio.Lock()
        self._over = trio.CancelScope()

    @property
    def remaining(self) -> float:
        """Seconds for which the lease counts without renewal; never negative."""
        return max(0.0, self.until - self._clock())

    def begin(self) -> None:
        """Let applications write."""
        self._writable = True
        self._store.set_writable(True, until=self.until)
        if self.lease.supports_handoff:
            self._kept.save(self.lease.id)

    def stop(self) -> None:
        """Have them write no more, from this moment on; `hold` returns."""
        self._forbid()
        self._kept.forget()
        self._over.cancel()

    def _forbid(self) -> None:
        self._writable = False
        self._store.set_writable(False)

    async def hold(self) -> None:
        """Renew the lease at half its time, for as long as that works or until `stop`.

        Raises:
            LeaseExpired: it is over, or nobody can say in time that it is not.
        """
        with self._over:
            if self.lease.ttl == FOREVER:
                await trio.sleep_forever()
            await self._keep()

    async def _keep(self) -> None:
        lost: LeaseExpired | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            try:
                while True:
                    await self._sleep_until(self._started + self.lease.ttl / 2)
                    await self.renew()
            except LeaseExpired as error:
                self._forbid()  # before the listener's end is waited for
                lost = error  # a nursery would wrap it
                nursery.cancel_scope.cancel()
        if lost is not None:
            raise lost

    async def _listen(self) -> None:
        while True:
            await self._wait_change()
            self._doubt.set()
            await trio.sleep(DOUBT_PAUSE)

    async def _sleep_until(self, moment: float) -> None:
        """Sleep, unless there is doubt about the lease."""
        while (left := moment - self._clock()) > 0 and not self._doubt.is_set():
            with trio.move_on_after(min(left, LOOK)):
                await self._doubt.wait()
        self._doubt = trio.Event()

    async def renew(self) -> None:
        """Make the lease count for another time.

        Raises:
            LeaseExpired: see `hold`.
        """
        async with self._renewing:
            if self.lease.ttl == FOREVER:
                return
            with trio.move_on_after(self.remaining):
                if await self._try():
                    return
            raise LeaseExpired("the lease could not be renewed in time")

    async def _try(self) -> bool:
        """Until it works, or there is no time left for another try."""
        while True:
            started = self._clock()
            try:
                await self.lease.renew()
            except LeaseUnavailable as error:
                log.warning("%s: lease renewal error, retrying: %s", self._node, error)
            else:
                self._renewed(started)
                return True
            if self.remaining <= RENEW_RETRY:
                return False
            await trio.sleep(RENEW_RETRY)

    def _renewed(self, started: float) -> None:
        self._started, self.until = started, started + self.lease.ttl
        if self._writable:
            self._store.set_writable(True, until=self.until)
