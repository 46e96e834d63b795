"""What a node says it is."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from litefs.cluster.role import YIELD_LIMIT, Role
from litefs.leases import PrimaryInfo
from litefs.store.events import EventHub, PrimaryChangeEvent

A = PrimaryInfo("a", "http://a:20202")


def role(**options: Any) -> Role:
    return Role("me", candidate=True, events=EventHub(), now=lambda: 100.0, **options)


async def _lag() -> None:
    one = role()
    assert one.lag_ms() is None
    one.follow(A)
    assert one.lag_ms() is None
    one.heartbeat(99_000)
    assert one.lag_ms() == 1000
    assert not one.ready.is_set()  # not everything from before has been applied
    one.caught_up()
    one.heartbeat(100_500)
    assert one.lag_ms() == -500  # clocks differ
    assert one.ready.is_set()
    one.follow(None)
    assert one.lag_ms() == -500
    one.lead()
    assert one.lag_ms() == 0
    one.follow(None)
    assert one.lag_ms() is None


async def _names() -> None:
    one = role()
    assert (one.primary, one.primary_hostname) == (None, None)
    one.follow(A)
    assert (one.primary, one.primary_hostname) == (A, "a")
    one.lead()
    assert (one.primary, one.primary_hostname) == (None, "me")


async def _changes() -> None:
    events = EventHub()
    one = Role("me", candidate=True, events=events)
    async with events.subscribe() as channel, trio.open_nursery() as nursery:
        seen: list[bool] = []

        async def wait() -> None:
            await one.wait_change()
            seen.append(one.is_primary)

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        one.follow(None)  # as before: no event
        one.lead()
        one.lead()
        one.follow(A)
        got = [await channel.receive() for _ in range(2)]
        assert got == [PrimaryChangeEvent(True, None), PrimaryChangeEvent(False, "a")]
        assert channel.statistics().current_buffer_used == 0
    assert seen == [False]


def test_role() -> None:
    for body in (_lag, _names, _changes):
        trio.run(body)


async def _yielding() -> None:
    one, seen, ended = role(), [], trio.Event()
    one.lead()

    async def conform() -> None:
        seen.append(one.is_yielding)
        await ended.wait()

    async def end() -> None:
        await one.wait_change()
        seen.append(one.is_yielding)
        ended.set()

    one.conform = conform
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end)
        await trio.testing.wait_all_tasks_blocked()
        async with one.yielding():
            assert seen == [True, True]
            async with one.yielding():  # as where a hand-over fails and the lease is released instead
                pass
            assert one.is_yielding
    assert not one.is_yielding


def test_yielding_is_announced_and_waits_for_commands() -> None:
    trio.run(_yielding)


def test_yielding_does_not_wait_forever(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        one = role()
        one.conform = trio.sleep_forever
        started = trio.current_time()
        async with one.yielding():
            assert trio.current_time() - started == pytest.approx(YIELD_LIMIT)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert "handing over without them" in caplog.text
