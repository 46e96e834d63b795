"""The conformance kit: the fake passes it, and broken backends do not."""

from __future__ import annotations

import unittest
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from litefs.leases import LeaseExpired, LeaseHeld, LeaseUnavailable, PrimaryInfo
from litefs.testing import FakeLease, FakeLeaser, LeaseConformance, SharedLease


class TestFake(LeaseConformance):
    wakes_waiters = True

    def clock(self) -> trio.testing.MockClock:
        self.shared = SharedLease()
        return trio.testing.MockClock(autojump_threshold=0)

    async def leaser(self, name: str) -> FakeLeaser:
        return FakeLeaser(self.shared, name)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        self.shared.available = False
        yield
        self.shared.available = True

    async def revoke(self) -> None:
        self.shared.revoke()


class TestFakeWithoutHandoff(TestFake):
    def clock(self) -> trio.testing.MockClock:
        clock = super().clock()
        self.shared = SharedLease(supports_handoff=False)
        return clock


def test_unittest_runs_it_as_well() -> None:
    class Suite(TestFakeWithoutHandoff, unittest.TestCase):
        pass

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Suite).run(result)
    assert result.wasSuccessful()
    assert result.testsRun > 15
    assert {reason for _, reason in result.skipped} == {"leases cannot be handed on"}


def broken(**methods: Callable[..., Any]) -> LeaseConformance:
    """The suite for fakes with some methods of lease or leaser replaced."""
    lease = type("Lease", (FakeLease,), {name[6:]: method for name, method in methods.items() if "lease_" in name})

    class Leaser(FakeLeaser):
        async def acquire(self) -> FakeLease:
            found: FakeLease = await super().acquire()
            found.__class__ = lease
            return found

    for name, method in methods.items():
        if not name.startswith("lease_"):
            setattr(Leaser, name, method)

    class Suite(TestFake):
        async def leaser(self, name: str) -> FakeLeaser:
            return Leaser(self.shared, name)

    return Suite()


async def _nothing(self: object, *args: object) -> None:
    await trio.lowlevel.checkpoint()


async def _nobody(self: object) -> PrimaryInfo | None:
    return PrimaryInfo("somebody", "http://somebody:1")


async def _greedy(self: FakeLeaser) -> FakeLease:
    await trio.lowlevel.checkpoint()
    self._shared.revoke()
    return FakeLease(self._shared, self._shared.take(self.info), self.info)


async def _lost(self: FakeLease) -> None:
    raise LeaseExpired("over")


@pytest.mark.parametrize(
    ("methods", "check", "error"),
    [
        ({"lease_release": _nothing}, "release", AssertionError),
        ({"lease_renew": _nothing}, "expiry", AssertionError),
        ({"lease_renew": _nothing}, "renew_keeps_it", AssertionError),
        ({"lease_renew": _lost}, "renew_keeps_it", LeaseExpired),
        ({"primary": _nobody}, "starts_free", AssertionError),
        ({"acquire": _greedy}, "held", AssertionError),
        ({"acquire": _greedy}, "one_of_many_wins", AssertionError),
        ({"set_cluster_id": _nothing}, "cluster_id", AssertionError),
        ({"lease_renew": _lost}, "outage", LeaseExpired),
    ],
)
def test_the_suite_finds_broken_backends(methods: dict[str, Any], check: str, error: type[Exception]) -> None:
    suite = broken(**methods)
    with pytest.raises(error):
        suite.run_check(getattr(suite, f"check_{check}"))


def test_every_check_is_a_test_with_a_docstring() -> None:
    checks = [name for name in dir(LeaseConformance) if name.startswith("check_")]
    assert len(checks) > 15
    for name in checks:
        assert getattr(LeaseConformance, name.replace("check_", "test_")).__doc__, name


def test_fake_wakes_waiters_when_the_holder_changes() -> None:
    async def main() -> None:
        shared = SharedLease()
        one, two = FakeLeaser(shared, "one"), FakeLeaser(shared, "two")
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(two.wait_change)
            await trio.testing.wait_all_tasks_blocked()
            lease = await one.acquire()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(two.wait_change)
            await trio.testing.wait_all_tasks_blocked()
            await lease.renew()
            await trio.testing.wait_all_tasks_blocked()
            assert nursery.child_tasks
            shared.revoke()
        with pytest.raises(LeaseExpired):
            await lease.renew()
        shared.available = False
        with pytest.raises(LeaseUnavailable):
            await two.acquire()

    trio.run(main)


def test_held_names_the_holder() -> None:
    assert str(LeaseHeld(PrimaryInfo("one", "http://one:1"))) == "lease is held by one"
    assert str(LeaseHeld(PrimaryInfo("", "http://one:1"))) == "lease is held by http://one:1"
    assert str(LeaseHeld(None)) == "lease is held"
