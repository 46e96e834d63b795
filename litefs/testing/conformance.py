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
import functools
import math
import unittest
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import trio
import trio.abc

from litefs.leases import (
    ClusterIDConflict,
    HandoffNotSupported,
    Lease,
    LeaseExpired,
    LeaseHeld,
    Leaser,
    LeaseUnavailable,
    PrimaryInfo,
)

E = TypeVar("E", bound=Exception)

CLUSTER_ID = "LFSC0123456789ABCDEF"
OTHER_CLUSTER_ID = "LFSCFEDCBA9876543210"


class LeaseConformance:
    """The suite.  Override `leaser`, and whatever of the rest does not fit your backend.

    Attributes:
        exclusive: the backend itself keeps two nodes from holding the lease at once.
        stores_cluster_id: the backend keeps the cluster id.
        wakes_waiters: `wait_change` returns when the lease is taken, released or handed on, within `slack`.
        slack: seconds past the ttl within which an expired lease must be free for others.
        limit: seconds that one check may take.
        longest_ttl: seconds of the ttl of leases, for a check that never sees one.
    """

    exclusive = True
    stores_cluster_id = True
    wakes_waiters = False
    slack = 0.5
    limit = 60.0
    longest_ttl = 10.0

    # ---------------------------------------------------------------------------------------- what authors override

    async def leaser(self, name: str) -> Leaser:
        """A new leaser for the node called ``name``; all leasers of one check share one lease, which starts free."""
        raise NotImplementedError

    def clock(self) -> trio.abc.Clock | None:
        """The clock to run a check with, such as trio.testing.MockClock(autojump_threshold=0); None for real time."""
        return None

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for the backend.  Override it where the backend's clock is a fake that is not trio's."""
        await trio.sleep(seconds)

    def outage(self) -> AbstractAsyncContextManager[None]:
        """A context in which the backend cannot be reached."""
        raise unittest.SkipTest("this suite cannot make the backend unreachable")

    async def revoke(self) -> None:
        """Take the lease away from whoever holds it, as an operator could."""
        raise unittest.SkipTest("this suite cannot take a lease away")

    # ------------------------------------------------------------------------------------------------------ checks

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
            assert await one.primary() == _info(one)
            if self.exclusive:
                assert await two.primary() == _info(one)

    async def check_held(self) -> None:
        """A lease that is held is refused, with the name of its holder."""
        self._need_exclusive()
        async with self._nodes("one", "two") as (one, two):
            await one.acquire()
            for _ in range(2):
                held = await _refused(two.acquire, LeaseHeld)
                assert held.primary in (None, _info(one))
            assert await two.primary() == _info(one)

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
                assert await leaser.primary() == _info(winners[0])

    async def check_release(self) -> None:
        """A released lease is free at once."""
        self._need_exclusive()
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            await lease.release()
            assert await two.primary() is None
            await two.acquire()
            assert await one.primary() == _info(two)

    async def check_release_is_harmless_when_over(self) -> None:
        """Releasing twice, or after somebody else took the lease, changes nothing."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            await lease.release()
            await lease.release()
            if self.exclusive:
                await two.acquire()
                await lease.release()
                assert await one.primary() == _info(two)

    async def check_acquire_again(self) -> None:
        """A node that released the lease can take it again."""
        async with self._nodes("one") as (one,):
            first = await one.acquire()
            await first.release()
            second = await one.acquire()
            await second.renew()
            assert await one.primary() == _info(one)

    async def check_renew_keeps_it(self) -> None:
        """Renewed in time, a lease outlives its ttl, and nobody else gets it meanwhile."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            for _ in range(5):
                await self.pass_time(0.01 if math.isinf(lease.ttl) else lease.ttl / 2)
                await lease.renew()
                if self.exclusive:
                    await _refused(two.acquire, LeaseHeld)
            assert await one.primary() == _info(one)

    async def check_expiry(self) -> None:
        """A lease that is not renewed is free after its ttl, and its former holder learns that it lost it."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            self._need_expiry(lease)
            await self.pass_time(lease.ttl + self.slack)
            assert await two.primary() is None
            other = await two.acquire()
            await _refused(lease.renew, LeaseExpired)
            await lease.release()
            await other.renew()
            assert await one.primary() == _info(two)

    async def check_no_early_expiry(self) -> None:
        """Before the ttl is over nobody else gets the lease."""
        self._need_exclusive()
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            self._need_expiry(lease)
            await self.pass_time(lease.ttl * 0.6)
            await _refused(two.acquire, LeaseHeld)
            await lease.renew()

    async def check_renew_after_release(self) -> None:
        """A released lease cannot be renewed."""
        async with self._nodes("one") as (one,):
            lease = await one.acquire()
            self._need_expiry(lease)
            await lease.release()
            await _refused(lease.renew, LeaseExpired)

    async def check_taken_away(self) -> None:
        """A holder whose lease was taken away learns of it when it renews, and others can have it."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            await self.revoke()
            await _refused(lease.renew, LeaseExpired)
            assert await two.primary() is None
            other = await self._acquire_soon(two)
            await _refused(lease.renew, LeaseExpired)
            await lease.release()
            await other.renew()
            assert await one.primary() == _info(two)

    async def check_handoff(self) -> None:
        """A lease handed to another node makes that one primary without a moment in which nobody is."""
        async with self._nodes("one", "two", "three") as (one, two, three):
            lease = await one.acquire()
            if not lease.supports_handoff:
                await _refused(functools.partial(two.acquire_existing, lease.id), HandoffNotSupported)
                return
            await lease.renew()
            taken = await two.acquire_existing(lease.id)
            assert await three.primary() == _info(two)
            await _refused(three.acquire, LeaseHeld)
            await taken.renew()
            await taken.release()
            assert await three.primary() is None

    async def check_handoff_of_a_lease_that_is_over(self) -> None:
        """What is not held any more cannot be handed on."""
        async with self._nodes("one", "two") as (one, two):
            lease = await self._acquire_for_handoff(one)
            await lease.release()
            await _refused(functools.partial(two.acquire_existing, lease.id), LeaseExpired)
            assert await two.primary() is None

    async def check_handoff_of_a_lease_that_was_taken_away(self) -> None:
        """Nor what somebody took away meanwhile."""
        async with self._nodes("one", "two") as (one, two):
            lease = await self._acquire_for_handoff(one)
            await self.revoke()
            await _refused(functools.partial(two.acquire_existing, lease.id), LeaseExpired)
            assert await two.primary() is None

    async def check_handoff_of_what_is_no_lease(self) -> None:
        """The id comes from the network: nonsense is refused, and changes nothing."""
        async with self._nodes("one", "two") as (one, two):
            lease = await self._acquire_for_handoff(one)
            for nonsense in ("", "x", f"../{lease.id}", lease.id + "0", "\u00e4?&#%00\n"):
                await _refused(functools.partial(two.acquire_existing, nonsense), LeaseExpired)
            await lease.renew()
            assert await two.primary() == _info(one)

    async def check_handoff_leaves_the_former_holder_nothing(self) -> None:
        """Who handed the lease on can neither renew nor release it any more."""
        async with self._nodes("one", "two") as (one, two):
            lease = await self._acquire_for_handoff(one)
            taken = await two.acquire_existing(lease.id)
            await _refused(lease.renew, LeaseExpired)
            await lease.release()
            await taken.renew()
            assert await one.primary() == _info(two)

    async def check_handoff_there_and_back(self) -> None:
        """A lease can be handed on again and again, and is as good as new each time."""
        async with self._nodes("one", "two") as (one, two):
            lease = await self._acquire_for_handoff(one)
            for leaser in (two, one, two, one):
                lease = await leaser.acquire_existing(lease.id)
                assert lease.ttl > 0
                await lease.renew()
                assert await two.primary() == _info(leaser)
            await lease.release()
            assert await two.primary() is None

    async def check_cluster_id(self) -> None:
        """The cluster id is stored once and for all; a lease that comes and goes does not matter."""
        async with self._nodes("one", "two") as (one, two):
            assert await one.cluster_id() is None
            lease = await one.acquire()
            await one.set_cluster_id(CLUSTER_ID)
            await one.set_cluster_id(CLUSTER_ID)
            await lease.release()
            if not self.stores_cluster_id:
                assert await two.cluster_id() is None
                return
            assert await two.cluster_id() == CLUSTER_ID
            await _refused(functools.partial(two.set_cluster_id, OTHER_CLUSTER_ID), ClusterIDConflict)
            assert await one.cluster_id() == CLUSTER_ID

    async def check_cluster_id_is_set_once(self) -> None:
        """Of nodes that store different ids at the same moment one succeeds, and the others learn whose id it is."""
        if not self.stores_cluster_id:
            raise unittest.SkipTest("the cluster id is not stored")
        async with self._nodes(*(f"node{number}" for number in range(6))) as leasers:
            stored: list[str] = []
            conflicts: list[str] = []

            async def store(leaser: Leaser, cluster_id: str) -> None:
                try:
                    await leaser.set_cluster_id(cluster_id)
                    stored.append(cluster_id)
                except ClusterIDConflict as error:
                    conflicts.append(error.existing)

            async with trio.open_nursery() as nursery:
                for number, leaser in enumerate(leasers):
                    nursery.start_soon(store, leaser, f"LFSC{number:016X}")
            assert len(stored) == 1
            assert conflicts == stored * (len(leasers) - 1)
            for leaser in leasers:
                assert await leaser.cluster_id() == stored[0]

    async def check_closing_keeps_the_lease(self) -> None:
        """A leaser that is closed frees its connections, not the lease."""
        self._need_exclusive()
        async with self._nodes("two") as (two,):
            one = await self.leaser("one")
            await one.acquire()
            await one.aclose()
            await _refused(two.acquire, LeaseHeld)

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
            assert await three.primary() == _info(one)
            if lease.supports_handoff:
                async with self._woken(three):
                    lease = await two.acquire_existing(lease.id)
                assert await three.primary() == _info(two)
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
            assert await two.primary() == _info(one)

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

    async def check_cancelled_acquire(self) -> None:
        """A cancelled `acquire` holds the lease no longer than its ttl."""
        async with self._nodes("one", "two") as (one, two):
            with trio.CancelScope() as scope:
                scope.cancel()
                await one.acquire()
            if self.exclusive:
                await self._within_ttl(two.acquire)

    async def check_outage(self) -> None:
        """A backend that cannot be reached is told apart from a lease that is lost."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            async with self.outage():
                for call in (one.primary, two.acquire, lease.renew, one.cluster_id, lease.release):
                    await _refused(call, LeaseUnavailable)
                await _refused(functools.partial(one.set_cluster_id, CLUSTER_ID), LeaseUnavailable)
                if lease.supports_handoff:
                    await _refused(functools.partial(two.acquire_existing, lease.id), LeaseUnavailable)
            await lease.renew()
            assert await two.primary() == _info(one)

    async def check_outage_past_the_ttl(self) -> None:
        """A lease that could not be renewed in time is over when the backend is back."""
        async with self._nodes("one", "two") as (one, two):
            lease = await one.acquire()
            self._need_expiry(lease)
            async with self.outage():
                await self.pass_time(lease.ttl + self.slack)
            await _refused(lease.renew, LeaseExpired)
            assert await two.primary() is None
            await two.acquire()

    # ------------------------------------------------------------------------------------------------------ running

    def run_check(self, check: Callable[[], Awaitable[None]]) -> None:
        """Run one check to its end under trio."""

        async def main() -> None:
            with trio.fail_after(self.limit):
                await check()

        trio.run(main, clock=self.clock())

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


def _info(leaser: Leaser) -> PrimaryInfo:
    return PrimaryInfo(leaser.hostname, leaser.advertise_url)


async def _refused(call: Callable[[], Awaitable[object]], kind: type[E]) -> E:
    try:
        result = await call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} expected, got {result!r}")


def _as_test(name: str) -> Callable[[LeaseConformance], None]:
    def test(self: LeaseConformance) -> None:
        self.run_check(getattr(self, name))

    test.__doc__ = getattr(LeaseConformance, name).__doc__
    return test


for _name in [name for name in vars(LeaseConformance) if name.startswith("check_")]:
    setattr(LeaseConformance, _name.replace("check_", "test_", 1), _as_test(_name))
