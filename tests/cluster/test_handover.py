"""Giving the lease away: to whom, what goes before, and what happens when it comes to nothing. In virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from litefs.cluster import following, machine
from litefs.cluster.handover import FLUSH_LIMIT, GATE_LIMIT, LAST_FLUSH_LIMIT, PREPARE_LIMIT, RESIGN_LIMIT
from litefs.errors import LeaseError, StreamError
from litefs.leases import HandoffNotSupported

from .fakes import Cluster, Node, until
from .running import messages, run, running


async def leave(node: Node) -> float:
    """Stop a node in order; the seconds it took."""
    started = trio.current_time()
    await node.machine.leave(node.ended)
    assert node.ended.is_set()
    return trio.current_time() - started


def test_a_node_that_leaves_hands_over(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        db = a.store.add("db")
        db.write({1: b"x"})
        async with running(a, b):
            await until(b.role.ready.is_set)
            db.write({1: b"y"})
            assert await leave(a) < 0.3
            await until(lambda: b.store.writable, 0.3)
            assert cluster.backend.sessions == 1, "the lease itself moves"
            assert b.store.databases["db"].pos == db.pos
            assert not a.store.writable
            assert not a.store.gate.closed

    run(main)
    assert "0000000000000001: exiting primary, preserving lease for handoff" in messages(caplog)


def test_the_most_advanced_candidate_gets_it(cluster: Cluster) -> None:
    async def main() -> None:
        a, b, c = cluster.node("a"), cluster.node("b"), cluster.node("c")
        d = cluster.node("d", candidate=False)
        db = a.store.add("db")
        async with running(a, b, c, d):
            await until(lambda: all(node.role.ready.is_set() for node in (b, c, d)))
            c.follower.deaf = True  # what is sent to it stays under way
            for n in range(5):
                db.write({1: b"%d" % n})
                await trio.sleep(0.1)
            await leave(a)
            await until(lambda: b.store.writable, 1)

    run(main)


def test_commits_wait_while_the_lease_moves(cluster: Cluster) -> None:
    """Nothing is given before all that was captured is published and sent."""

    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        db = a.store.add("db")
        async with running(a, b):
            await until(b.role.ready.is_set)
            pos = db.write({1: b"x"}, publish=False)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(b.machine.promote)
                await trio.sleep(1)
                assert a.store.gate.closed
                assert a.store.writable
                db.publish()
                await until(lambda: b.store.writable, 0.3)
                assert not a.store.gate.closed
            assert b.store.databases["db"].pos == pos

    run(main)


@pytest.mark.parametrize("obstacle", ["unpublished", "deaf"])
def test_a_hand_over_that_fails_changes_nothing(cluster: Cluster, obstacle: str) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        db = a.store.add("db")
        async with running(a, b):
            await until(b.role.ready.is_set)
            db.write({1: b"x"}, publish=False)
            if obstacle == "deaf":
                b.follower.deaf = True
                await trio.sleep(2)  # a heartbeat is stuck
                db.publish()
            started = trio.current_time()
            with pytest.raises(StreamError, match="could not be sent everything"):
                await a.machine.handoff(2)
            assert trio.current_time() - started <= GATE_LIMIT + 0.1
            assert a.store.writable
            assert a.role.is_primary
            assert not a.store.gate.closed
            assert cluster.backend.holder is not None
            assert cluster.backend.holder.leaser is a.leaser

    run(main)


def test_a_lease_that_nobody_takes_is_destroyed(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """The one who gave it never uses it again: the target may have it after all, and nobody can tell."""

    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        async with running(a, b) as scopes:
            await until(b.role.ready.is_set)
            b.leaser.cut_off = True
            await a.machine.handoff(2)
            given = trio.current_time()
            scopes[b].cancel()
            while not a.store.writable:
                assert not a.role.is_primary
                await trio.sleep(0.05)
            assert trio.current_time() - given >= machine.TAKEN_LIMIT
            assert cluster.backend.sessions == 2

    run(main)
    assert "0000000000000001: nobody has taken the lease that was handed over" in messages(caplog)
    assert "0000000000000001: exiting primary, destroying lease" in messages(caplog)


def test_without_a_candidate_replicas_get_everything_before_the_lease_goes(cluster: Cluster) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b", candidate=False)
        db = a.store.add("db")
        async with running(a, b):
            await until(b.role.ready.is_set)
            pos = db.write({1: b"x"}, publish=False)

            async def publish_late() -> None:
                await trio.sleep(0.2)
                db.publish()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish_late)
                await leave(a)
            await until(lambda: b.store.databases.get("db") and b.store.databases["db"].pos == pos, 1)
            assert cluster.backend.holder is None

    run(main)


def test_a_replica_that_does_not_read_holds_up_nobody(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b", candidate=False)
        async with running(a, b):
            await until(b.role.ready.is_set)
            b.follower.deaf = True
            await trio.sleep(2)
            assert await leave(a) < FLUSH_LIMIT + 0.5
            assert cluster.backend.holder is None

    run(main)
    assert any("not every replica could be sent everything within 1 s" in text for text in messages(caplog))


@pytest.mark.parametrize("state", ["stuck", "disconnected"])
def test_a_candidate_that_comes_back_soon_gets_it(
    cluster: Cluster, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits go on meanwhile: whoever becomes primary without them would lose them."""

    async def in_this_thread(call: Callable[..., object], *arguments: object, **_: object) -> object:
        return call(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", in_this_thread)  # another one lets the virtual clock run

    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        db = a.store.add("db")
        async with running(a, b):
            await until(b.role.ready.is_set)
            first = db.write({1: b"x"})  # a snapshot would be made in a thread as well
            await until(lambda: "db" in b.store.databases and b.store.databases["db"].pos == first)
            if state == "stuck":
                b.follower.deaf = True
                await trio.sleep(2)  # a heartbeat is stuck
            else:
                b.follower.away = True
                b.follower.cut("the test wants it")
                await until(lambda: not a.streams.open)
            pos = db.write({1: b"y"})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leave, a)
                await trio.sleep(GATE_LIMIT + 1)
                assert a.store.writable
                assert not a.store.gate.closed
                if state == "stuck":
                    b.follower.deaf = False
                    b.follower.cut("the test wants it")
                b.follower.away = False
            await until(lambda: b.store.writable, 1)
            assert cluster.backend.sessions == 1
            assert b.store.databases["db"].pos == pos

    run(main)


def test_a_candidate_that_is_gone_is_not_waited_for(cluster: Cluster) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        async with running(a, b) as scopes:
            await until(b.role.ready.is_set)
            scopes[b].cancel()
            await until(lambda: not b.running and not a.streams.open)
            assert await leave(a) < FLUSH_LIMIT
            assert cluster.backend.holder is None

    run(main)


def test_a_candidate_that_never_comes_is_waited_for_in_vain(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        async with running(a, b):
            await until(b.role.ready.is_set)
            b.follower.deaf = True
            await trio.sleep(2)
            most = PREPARE_LIMIT + GATE_LIMIT + RESIGN_LIMIT + LAST_FLUSH_LIMIT
            assert await leave(a) < most + 1
            assert cluster.backend.holder is None or cluster.backend.holder.leaser is b.leaser

    run(main)
    assert any("not every replica could be sent everything within 5 s" in text for text in messages(caplog))


def test_demote(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        async with running(a, b):
            await until(b.role.ready.is_set)
            with pytest.raises(LeaseError, match="node is not currently primary"):
                await b.machine.demote()
            with pytest.raises(LeaseError, match="target node is not currently connected"):
                await a.machine.demote(99)
            assert a.machine.eligible
            await a.machine.demote()
            await until(lambda: b.store.writable, 1)
            assert not a.machine.eligible
            await trio.sleep(10)
            assert a.machine.eligible
            stream = b.streams.peers[1]
            assert stream.may_lead, "it connected while it was demoted, but that is over"
            await b.machine.demote(1)
            await until(lambda: a.store.writable, 1)
            assert cluster.backend.sessions == 1

    run(main)


def test_demote_without_anyone_else(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a = cluster.node("a")
        async with running(a):
            await until(lambda: a.store.writable)
            await a.machine.demote()
            started = trio.current_time()
            assert not a.store.writable
            await until(lambda: a.store.writable)
            assert 9.9 < trio.current_time() - started < 11.1
            assert cluster.backend.holder is not None
            cluster.backend.holder.supports_handoff = False
            with pytest.raises(HandoffNotSupported):
                await a.machine.demote()
            assert a.store.writable

    run(main)
    assert "0000000000000001: cannot find primary; demoted, not competing for another 10.0 s" in messages(caplog)


def test_leaving_while_there_is_no_primary(cluster: Cluster) -> None:
    async def main() -> None:
        b = cluster.node("b", candidate=False)
        b.machine._reconnect_delay = 100
        async with running(b):
            await trio.testing.wait_all_tasks_blocked()
            assert await leave(b) < 0.1
        cluster.backend.hanging = True
        c = cluster.node("c")
        async with running(c):
            started = trio.current_time()
            await c.machine.leave(c.ended)
            assert trio.current_time() - started <= machine.LEAVE_LIMIT

    run(main)


def test_a_target_with_a_filter_is_refused(cluster: Cluster) -> None:
    async def main() -> None:
        a = cluster.node("a")
        async with running(a):
            await until(lambda: a.store.writable)
            stream = await a.streams.stream(bytes(4), ["one"], 7)
            reading = aiter(stream)
            await anext(reading)
            with pytest.raises(LeaseError, match="replicates only some of the databases"):
                await a.machine.handoff(7)
            await stream.aclose()

    run(main)


def test_a_primary_that_cannot_say_that_it_is_none(cluster: Cluster) -> None:
    """It is stopped, or behind a cut cable: its replica finds out from the lease."""

    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        async with running(a, b):
            await until(b.role.ready.is_set)
            b.follower.deaf = True
            a.leaser.cut_off = True
            cluster.backend.lost()
            started = trio.current_time()
            await until(lambda: b.store.writable, 100)
            assert trio.current_time() - started < 10 + 2 * following.QUIET_CHECK + 1.1
            assert b.follower.reason == "a is not the primary any more"

    run(main)
