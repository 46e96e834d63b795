"""What every lease backend has to do, as tests that its author runs.

Subclass, say how to make a leaser, and let pytest or unittest collect it; each ``check_*`` coroutine is there as a
``test_*`` method as well, which runs it under trio:

    class TestMyLease(LeaseConformance):
        @pytest.fixture(autouse=True)
        def _backend(self, server): self.server = server

        async def leaser(self, name):
            return MyLeaser(self.server.url, name, f"http://{name}:20202", ttl=1.0)

A check that does not apply to a backend raises unittest.SkipTest with the reason, which pytest understands, too.
"""

from __future__ import annotations

import contextlib
import math

import trio

from litefs.leases import LeaseExpired, LeaseHeld, Leaser, LeaseUnavailable
from litefs.testing.lease_clusterid import ClusterIDChecks
from litefs.testing.lease_handoff import HandoffChecks
from litefs.testing.lease_outages import OutageChecks
from litefs.testing.lease_suite import info_of, refused
from litefs.testing.lease_waiting import WaitingChecks


class LeaseConformance(HandoffChecks, WaitingChecks, OutageChecks, ClusterIDChecks):
    """The suite.  Override `leaser`, and whatever of the rest does not fit your backend; see `LeaseSuite`."""

    async def check_knows_its_node(self) -> None:
        """Type, host name and URL are there to be announced."""
        async with self._nodes("one") as (one,):
            assert one.type
            assert one.hostname == "one"
            assert one.advertise_url.startswith(("http://", "https://"))

    async def check_starts_free(self) -> None:
        """Nobody is primary at first."""
        async with self._nodes("one", "two") as leasers:
            for leaser in leasers:
                assert await leaser.primary() is None

    async def check_acquire(self) -> None:
        """Who takes the lease is primary in everybody's eyes."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            assert isinstance(lease.id, str)
            assert lease.id
            assert lease.ttl > 0
            assert await one.primary() == info_of(one)
            if self.exclusive:
                assert await two.primary() == info_of(one)

    async def check_held(self) -> None:
        """A lease that is held is refused, with the name of its holder."""
        self._need_exclusive()
        async with self._nodes("one", "two") as (one, two):
            await one.acquire()
            for _ in range(2):
                held = await refused(two.acquire, LeaseHeld)
                assert held.primary in (None, info_of(one))
            assert await two.primary() == info_of(one)

    async def check_one_of_many_wins(self) -> None:
        """Of nodes that try at the same moment exactly one gets the lease."""
        self._need_exclusive()
        async with self._nodes(*(f"node{number}" for number in range(6))) as leasers:
            winners: list[Leaser] = []

            async def compete(leaser: Leaser) -> None:
                with contextlib.suppress(LeaseHeld, LeaseUnavailable):
                    await leaser.acquire()
                    winners.append(leaser)

            async with trio.open_nursery() as nursery:
                for leaser in leasers:
                    nursery.start_soon(compete, leaser)
            assert len(winners) == 1
            for leaser in leasers:
                assert await leaser.primary() == info_of(winners[0])

    async def check_release(self) -> None:
        """A released lease is free at once."""
        self._need_exclusive()
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            await lease.release()
            assert await two.primary() is None
            await two.acquire()
            assert await one.primary() == info_of(two)

    async def check_release_is_harmless_when_over(self) -> None:
        """Releasing twice, or after somebody else took the lease, changes nothing."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            await lease.release()
            await lease.release()
            if self.exclusive:
                await two.acquire()
                await lease.release()
                assert await one.primary() == info_of(two)

    async def check_acquire_again(self) -> None:
        """A node that released the lease can take it again."""
        async with self._nodes("one") as (one,):
            first = await one.acquire()
            await first.release()
            second = await one.acquire()
            await second.renew()
            assert await one.primary() == info_of(one)

    async def check_renew_keeps_it(self) -> None:
        """Renewed in time, a lease outlives its ttl, and nobody else gets it meanwhile."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            for _ in range(5):
                await self.pass_time(0.01 if math.isinf(lease.ttl) else lease.ttl / 2)
                await lease.renew()
                if self.exclusive:
                    await refused(two.acquire, LeaseHeld)
            assert await one.primary() == info_of(one)

    async def check_expiry(self) -> None:
        """A lease that is not renewed is free after its ttl, and its former holder learns that it lost it."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            self._need_expiry(lease)
            await self.pass_time(lease.ttl + self.slack)
            assert await two.primary() is None
            other = await two.acquire()
            await refused(lease.renew, LeaseExpired)
            await lease.release()
            await other.renew()
            assert await one.primary() == info_of(two)

    async def check_no_early_expiry(self) -> None:
        """Before the ttl is over nobody else gets the lease."""
        self._need_exclusive()
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            self._need_expiry(lease)
            await self.pass_time(lease.ttl * 0.6)
            await refused(two.acquire, LeaseHeld)
            await lease.renew()

    async def check_renew_after_release(self) -> None:
        """A released lease cannot be renewed."""
        async with self._nodes("one") as (one,):
            lease = await one.acquire()
            self._need_expiry(lease)
            await lease.release()
            await refused(lease.renew, LeaseExpired)

    async def check_taken_away(self) -> None:
        """A holder whose lease was taken away learns of it when it renews, and others can have it."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            await self.revoke()
            await refused(lease.renew, LeaseExpired)
            assert await two.primary() is None
            other = await self._acquire_soon(two)
            await refused(lease.renew, LeaseExpired)
            await lease.release()
            await other.renew()
            assert await one.primary() == info_of(two)

    async def check_closing_keeps_the_lease(self) -> None:
        """A leaser that is closed frees its connections, not the lease."""
        self._need_exclusive()
        async with self._nodes("two") as (two,):
            one = await self.leaser("one")
            await one.acquire()
            await one.aclose()
            await refused(two.acquire, LeaseHeld)

    async def check_cancelled_acquire(self) -> None:
        """A cancelled `acquire` holds the lease no longer than its ttl."""
        async with self._nodes("one", "two") as (one, two):
            with trio.CancelScope() as scope:
                scope.cancel()
                await one.acquire()
            if self.exclusive:
                await self._within_ttl(two.acquire)
