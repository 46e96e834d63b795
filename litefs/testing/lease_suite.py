"""For the checks of lease backends: what their author says about one, and what several checks do."""

from __future__ import annotations

import math
import unittest
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import trio

from litefs.leases import Lease, LeaseHeld, Leaser, LeaseUnavailable, PrimaryInfo
from litefs.testing.suite import Suite

E = TypeVar("E", bound=Exception)


class LeaseSuite(Suite):
    """What the checks of leases have to know, and use.

    Attributes:
        exclusive: the backend itself keeps two nodes from holding the lease at once.
        stores_cluster_id: the backend keeps the cluster id.
        wakes_waiters: `wait_change` returns when the lease is taken, released or handed on, within `slack`.
        slack: seconds past the ttl within which an expired lease must be free for others.
        longest_ttl: seconds of the ttl of leases, for a check that never sees one.
    """

    exclusive = True
    stores_cluster_id = True
    wakes_waiters = False
    slack = 0.5
    longest_ttl = 10.0

    # ---------------------------------------------------------------------------------------- what authors override

    async def leaser(self, name: str) -> Leaser:
        """A new leaser for the node called ``name``; all leasers of one check share one lease, which starts free."""
        raise NotImplementedError

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for the backend.  Override it where the backend's clock is a fake that is not trio's."""
        await trio.sleep(seconds)

    def outage(self) -> AbstractAsyncContextManager[None]:
        """A context in which the backend cannot be reached."""
        raise unittest.SkipTest("this suite cannot make the backend unreachable")

    async def revoke(self) -> None:
        """Take the lease away from whoever holds it, as an operator could."""
        raise unittest.SkipTest("this suite cannot take a lease away")

    # --------------------------------------------------------------------------------------------- what checks use

    @asynccontextmanager
    async def _nodes(self, *names: str) -> AsyncIterator[Sequence[Leaser]]:
        leasers = [await self.leaser(name) for name in names]
        try:
            yield leasers
        finally:
            with trio.CancelScope(shield=True):
                for leaser in leasers:
                    await leaser.aclose()

    async def _acquire_for_handoff(self, leaser: Leaser) -> Lease:
        lease = await leaser.acquire()
        if not lease.supports_handoff:
            raise unittest.SkipTest("leases cannot be handed on")
        return lease

    async def _acquire_soon(self, leaser: Leaser) -> Lease:
        """Take a lease that is free, or will be within `slack`."""
        with trio.fail_after(self.slack + 1):
            while True:
                try:
                    return await leaser.acquire()
                except LeaseUnavailable:
                    await self.pass_time(0.05)

    @asynccontextmanager
    async def _waiting(self, leaser: Leaser) -> AsyncIterator[trio.Event]:
        """A context in which a task waits for a change; the event says that there was one."""
        changed = trio.Event()

        async def wait() -> None:
            await leaser.wait_change()
            changed.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(0.05)  # any backend is asked in this time; if not, it makes no difference
            yield changed
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def _woken(self, leaser: Leaser) -> AsyncIterator[None]:
        """A context that makes a change, which a waiting task must notice, and nothing before it."""
        async with self._waiting(leaser) as changed:
            assert not changed.is_set(), "wait_change returned before anything changed"
            yield
            with trio.fail_after(self.slack):
                await changed.wait()

    async def _within_ttl(self, acquire: Callable[[], Awaitable[Lease]]) -> None:
        """Succeeds at the latest when a lease that was just taken has run out."""
        try:
            await acquire()
        except (LeaseHeld, LeaseUnavailable):
            await self.pass_time(self.longest_ttl + self.slack)
            await acquire()

    def _need_exclusive(self) -> None:
        if not self.exclusive:
            raise unittest.SkipTest("the configuration, not the backend, says who holds the lease")

    def _need_waking(self) -> None:
        self._need_exclusive()
        if not self.wakes_waiters:
            raise unittest.SkipTest("changes are found by polling")

    def _need_expiry(self, lease: Lease) -> None:
        if math.isinf(lease.ttl):
            raise unittest.SkipTest("leases do not run out")


def info_of(leaser: Leaser) -> PrimaryInfo:
    """What others are told of this node while it is primary."""
    return PrimaryInfo(leaser.hostname, leaser.advertise_url)


async def refused(call: Callable[[], Awaitable[object]], kind: type[E]) -> E:
    """The error of this kind that a call raises. Raises AssertionError when it does not."""
    try:
        result = await call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} expected, got {result!r}")
