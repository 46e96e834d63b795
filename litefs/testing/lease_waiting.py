"""Checks of lease backends: hearing of changes."""

from __future__ import annotations

import trio

from litefs.testing.lease_suite import LeaseSuite, info_of


class WaitingChecks(LeaseSuite):
    """`wait_change` returns when something has changed."""

    async def check_waiting_can_be_cancelled(self) -> None:
        """`wait_change` sleeps or returns, and is cancelled like anything else."""
        async with self._nodes("one") as (one,):
            with trio.move_on_after(0.05):
                await one.wait_change()
            assert await one.primary() is None

    async def check_waiting_wakes(self) -> None:
        """`wait_change` returns soon after the lease was taken, handed on or released."""
        self._need_waking()
        async with self._nodes("one", "two", "three") as (one, two, three):
            assert await three.primary() is None
            async with self._woken(three):
                lease = await one.acquire()
            assert await three.primary() == info_of(one)
            if lease.supports_handoff:
                async with self._woken(three):
                    lease = await two.acquire_existing(lease.id)
                assert await three.primary() == info_of(two)
            async with self._woken(three):
                await lease.release()
            assert await three.primary() is None

    async def check_waiting_misses_nothing(self) -> None:
        """A change between `primary` and `wait_change` counts."""
        self._need_waking()
        async with self._nodes("one", "two") as (one, two):
            assert await two.primary() is None
            await one.acquire()
            with trio.fail_after(self.slack):
                await two.wait_change()
            assert await two.primary() == info_of(one)
