"""Checks of lease backends: handing a lease to another node."""

from __future__ import annotations

import functools

from litefs.leases import HandoffNotSupported, LeaseExpired, LeaseHeld
from litefs.testing.lease_suite import LeaseSuite, info_of, refused


class HandoffChecks(LeaseSuite):
    """A lease moves without a moment in which nobody has it."""

    async def check_handoff(self) -> None:
        """A lease handed to another node makes that one primary without a moment in which nobody is."""
        async with self._nodes("one", "two", "three") as (one, two, three):
            lease = await one.acquire()
            if not lease.supports_handoff:
                await refused(functools.partial(two.acquire_existing, lease.id), HandoffNotSupported)
                return
            await lease.renew()
            taken = await two.acquire_existing(lease.id)
            assert await three.primary() == info_of(two)
            await refused(three.acquire, LeaseHeld)
            await taken.renew()
            await taken.release()
            assert await three.primary() is None

    async def check_handoff_of_a_lease_that_is_over(self) -> None:
        """What is not held any more cannot be handed on."""
        async with self._nodes("one", "two") as (one, two):
            lease = await self._acquire_for_handoff(one)
            await lease.release()
            await refused(functools.partial(two.acquire_existing, lease.id), LeaseExpired)
            assert await two.primary() is None

    async def check_handoff_of_a_lease_that_was_taken_away(self) -> None:
        """Nor what somebody took away meanwhile."""
        async with self._nodes("one", "two") as (one, two):
            lease = await self._acquire_for_handoff(one)
            await self.revoke()
            await refused(functools.partial(two.acquire_existing, lease.id), LeaseExpired)
            assert await two.primary() is None

    async def check_handoff_of_what_is_no_lease(self) -> None:
        """The id comes from the network: nonsense is refused, and changes nothing."""
        async with self._nodes("one", "two") as (one, two):
            lease = await self._acquire_for_handoff(one)
            for nonsense in ("", "x", f"../{lease.id}", lease.id + "0", "\u00e4?&#%00\n"):
                await refused(functools.partial(two.acquire_existing, nonsense), LeaseExpired)
            await lease.renew()
            assert await two.primary() == info_of(one)

    async def check_handoff_leaves_the_former_holder_nothing(self) -> None:
        """Who handed the lease on can neither renew nor release it any more."""
        async with self._nodes("one", "two") as (one, two):
            lease = await self._acquire_for_handoff(one)
            taken = await two.acquire_existing(lease.id)
            await refused(lease.renew, LeaseExpired)
            await lease.release()
            await taken.renew()
            assert await one.primary() == info_of(two)

    async def check_handoff_there_and_back(self) -> None:
        """A lease can be handed on again and again, and is as good as new each time."""
        async with self._nodes("one", "two") as (one, two):
            lease = await self._acquire_for_handoff(one)
            for leaser in (two, one, two, one):
                lease = await leaser.acquire_existing(lease.id)
                assert lease.ttl > 0
                await lease.renew()
                assert await two.primary() == info_of(leaser)
            await lease.release()
            assert await two.primary() is None
