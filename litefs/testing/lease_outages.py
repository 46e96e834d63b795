"""Checks of lease backends: the backend is out of reach."""

from __future__ import annotations

import functools

import trio

from litefs.leases import LeaseExpired, LeaseUnavailable
from litefs.testing.lease_clusterid import CLUSTER_ID
from litefs.testing.lease_suite import LeaseSuite, info_of, refused


class OutageChecks(LeaseSuite):
    """Out of reach is not the same as lost."""

    async def check_waiting_in_an_outage(self) -> None:
        """`wait_change` raises nothing while the backend is away, and wakes again afterwards."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            await two.primary()
            async with self.outage():
                with trio.move_on_after(0.1):
                    await two.wait_change()
            await two.primary()
            if self.wakes_waiters:
                async with self._woken(two):
                    await lease.release()

    async def check_outage(self) -> None:
        """A backend that cannot be reached is told apart from a lease that is lost."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            async with self.outage():
                for call in (one.primary, two.acquire, lease.renew, one.cluster_id, lease.release):
                    await refused(call, LeaseUnavailable)
                await refused(functools.partial(one.set_cluster_id, CLUSTER_ID), LeaseUnavailable)
                if lease.supports_handoff:
                    await refused(functools.partial(two.acquire_existing, lease.id), LeaseUnavailable)
            await lease.renew()
            assert await two.primary() == info_of(one)

    async def check_outage_past_the_ttl(self) -> None:
        """A lease that could not be renewed in time is over when the backend is back."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            self._need_expiry(lease)
            async with self.outage():
                await self.pass_time(lease.ttl + self.slack)
            await refused(lease.renew, LeaseExpired)
            assert await two.primary() is None
            await two.acquire()
