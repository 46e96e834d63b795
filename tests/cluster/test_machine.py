"""Who is primary when: start, loss, handover, cluster ids, shutdown; all in virtual time."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import trio
import trio.testing

from litefs.errors import LeaseError
from litefs.leases import BaseLeaser, LeaseHeld, PrimaryInfo
from litefs.store.events import Event, PrimaryChangeEvent

from .fakes import Cluster, Node, until
from .running import messages, run, running


def test_the_first_candidate_leads_and_the_others_follow(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a, b, c = cluster.node("a"), cluster.node("b"), cluster.node("c", candidate=False)
        async with running(a, b, c):
            await until(lambda: b.role.ready.is_set() and c.role.ready.is_set())
            assert [node.store.writable for node in (a, b, c)] == [True, False, False]
            assert [node.role.is_primary for node in (a, b, c)] == [True, False, False]
            assert {node.role.primary_hostname for node in (a, b, c)} == {"a"}
            assert a.role.primary is None
            assert b.role.primary == PrimaryInfo("a", "http://a:20202")
            assert a.role.lag_ms() == 0
            assert b.role.lag_ms() is not None
            assert re.fullmatch("LFSC[0-9A-F]{16}", a.store.cluster_id)
            assert cluster.backend.cluster_id == b.store.cluster_id == a.store.cluster_id

    run(main)
    cluster_id = cluster.backend.cluster_id
    assert messages(caplog)[:3] == [
        "0000000000000001: primary lease acquired, advertising as http://a:20202",
        f'0000000000000001: set cluster id on "fake" lease "{cluster_id}"',
        '0000000000000002: existing primary found (a), connecting as replica to "http://a:20202"',
    ]


def test_a_clean_stop_hands_the_lease_on_at_once(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        async with running(a, b) as scopes:
            await until(b.role.ready.is_set)
            scopes[a].cancel()
            await until(lambda: b.store.writable, 3)
            assert not a.store.writable

    run(main)
    assert "0000000000000001: exiting primary, destroying lease" in messages(caplog)
    assert "0000000000000002: disconnected from primary, retrying" in messages(caplog)
    assert f'0000000000000002: using existing cluster id: "{cluster.backend.cluster_id}"' in messages(caplog)


def test_losing_the_lease_makes_read_only_at_once(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a = cluster.node("a")
        async with running(a):
            await until(lambda: a.store.writable)
            async with a.store.events.subscribe() as events:
                cluster.backend.holder = None
                start = trio.current_time()
                assert await events.receive() == PrimaryChangeEvent(False, None)
                assert trio.current_time() - start <= 5.1
                assert not a.store.writable
                await until(lambda: a.store.writable)
                assert cluster.backend.sessions == 2

    run(main)
    assert "0000000000000001: primary lease lost, retrying: session is gone" in messages(caplog)


def test_a_lease_that_was_taken_away_is_missed_as_soon_as_the_backend_says_so(cluster: Cluster) -> None:
    async def main() -> None:
        a = cluster.node("a")
        async with running(a):
            await until(lambda: a.store.writable)
            lease = cluster.backend.holder
            assert lease is not None
            for _ in range(3):  # whatever the backend thinks to be a change
                a.leaser.change.set()
                await trio.sleep(0.2)
            assert len(lease.renewed) == 3
            assert a.store.writable
            async with a.store.events.subscribe() as events:
                cluster.backend.holder = None
                start = trio.current_time()
                a.leaser.change.set()
                assert await events.receive() == PrimaryChangeEvent(False, None)
                assert trio.current_time() - start <= 0.1
                assert not a.store.writable

    run(main)


@pytest.mark.parametrize("how", ["down", "hanging"])
def test_a_backend_that_does_not_answer_ends_the_lease_in_time(cluster: Cluster, how: str) -> None:
    """Whatever the backend does, no commit is accepted past the time to live since the last good renewal was sent."""

    async def main() -> None:
        a = cluster.node("a")
        async with running(a):
            await until(lambda: a.store.writable)
            await trio.sleep(23)
            lease = cluster.backend.holder
            assert lease is not None
            assert a.store.until == lease.renewed[-1] + 10
            assert all(later - sooner <= 5.01 for sooner, later in zip(lease.renewed, lease.renewed[1:], strict=False))
            setattr(cluster.backend, how, True)
            await until(lambda: not a.store.writable)
            assert trio.current_time() <= lease.renewed[-1] + 10.01
            await trio.sleep(30)
            assert not a.store.writable
            setattr(cluster.backend, how, False)
            if how == "down":
                await until(lambda: a.store.writable)

    run(main)


def test_a_short_outage_of_the_backend_is_ridden_out(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a = cluster.node("a")
        async with running(a):
            await until(lambda: a.store.writable)
            for _ in range(5):
                await trio.sleep(4.5)
                cluster.backend.down = True
                await trio.sleep(3)
                cluster.backend.down = False
                assert a.store.writable
            assert cluster.backend.sessions == 1

    run(main)
    assert "lease renewal error, retrying: backend is down" in caplog.text


def test_release_that_hangs_does_not_hold_up_the_stop(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a = cluster.node("a")
        async with running(a) as scopes:
            await until(lambda: a.store.writable)
            cluster.backend.hanging = True
            scopes[a].cancel()
            start = trio.current_time()
        assert trio.current_time() - start < 3
        assert not a.store.writable

    run(main)
    assert "the lease backend does not answer" in caplog.text


def test_promote_and_handoff(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        db = a.store.add("db")
        db.write({1: b"x"})
        async with running(a, b):
            await until(b.role.ready.is_set)
            await b.machine.promote()
            assert not a.store.writable
            await until(lambda: b.store.writable, 0.5)
            assert cluster.backend.sessions == 1
            await until(lambda: a.role.primary_hostname == "b")
            assert not a.store.writable
            await b.machine.promote()  # already is
            await trio.sleep(30)
            assert b.store.writable
            assert not a.store.writable

    run(main)
    assert "0000000000000001: exiting primary, preserving lease for handoff" in messages(caplog)
    assert "0000000000000002: acquiring existing lease from handoff" in messages(caplog)


def test_a_handoff_that_comes_to_nothing(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        async with running(a, b):
            await until(b.role.ready.is_set)
            await b.machine.promote()
            cluster.backend.holder = None  # the session expires before the target has it
            await until(lambda: a.store.writable or b.store.writable)
            assert a.store.writable != b.store.writable

    run(main)
    assert "cannot acquire existing lease from handoff, retrying: no such session" in caplog.text


def test_promote_and_handoff_refused(cluster: Cluster) -> None:
    async def main() -> None:
        a, b, c = cluster.node("a"), cluster.node("b", candidate=False), cluster.node("c")
        with pytest.raises(LeaseError, match="no primary is currently available for handoff, cannot promote"):
            await c.machine.promote()
        async with running(a, b):
            await until(b.role.ready.is_set)
            with pytest.raises(LeaseError, match="not eligible to become primary"):
                await b.machine.promote()
            with pytest.raises(LeaseError, match="node is not currently primary"):
                await b.machine.handoff(1)
            with pytest.raises(LeaseError, match="target node is not currently connected"):
                await a.machine.handoff(99)
            assert cluster.backend.holder is not None
            cluster.backend.holder.supports_handoff = False
            with pytest.raises(LeaseError, match="fake lease does not support handoff"):
                await a.machine.handoff(2)
            assert a.store.writable

    run(main)


def test_a_node_without_a_primary_or_the_right_to_be_one(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        b = cluster.node("b", candidate=False)
        async with running(b):
            await trio.sleep(2.5)
            assert cluster.backend.sessions == 0
            assert not b.role.ready.is_set()

    run(main)
    line = "0000000000000001: cannot find primary & ineligible to become primary, retrying: no primary"
    assert messages(caplog) == [line] * 3


def test_news_from_the_backend_shorten_the_wait(cluster: Cluster) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b", candidate=False)
        b.machine._reconnect_delay = 100
        async with running(b, a):
            b.leaser.change.set()
            await until(lambda: b.role.primary is not None, 1)

    run(main)


def test_foreign_cluster_id(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a = cluster.node("a")
        a.store.cluster_id = "LFSC0000000000000001"
        cluster.backend.cluster_id = "LFSC0000000000000002"
        async with running(a):
            await trio.sleep(5)
            assert cluster.backend.sessions == 0
            cluster.backend.cluster_id = "LFSC0000000000000001"
            await until(lambda: a.store.writable)

    run(main)
    text = '0000000000000001: cannot connect, "fake" lease already initialized with different ID: LFSC0000000000000002'
    assert any(message.startswith(text) for message in messages(caplog))


def test_a_node_without_a_cluster_id_may_only_join(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        cluster.backend.cluster_id = "LFSC0000000000000001"
        a, b = cluster.node("a"), cluster.node("b")
        b.store.cluster_id = "LFSC0000000000000001"
        async with running(a):
            await trio.sleep(5)
            assert cluster.backend.sessions == 0
            async with running(b):
                await until(a.role.ready.is_set)
                assert a.store.cluster_id == "LFSC0000000000000001"

    run(main)
    assert (
        '0000000000000001: cannot become primary, local node has no cluster ID and "fake" lease already initialized '
        "with cluster ID LFSC0000000000000001; if its databases are of that cluster, stop it and run: litefs cluster "
        "adopt LFSC0000000000000001"
    ) in messages(caplog)


def test_a_known_cluster_id_is_written_to_an_empty_backend(cluster: Cluster) -> None:
    async def main() -> None:
        a = cluster.node("a")
        a.store.cluster_id = "LFSC0000000000000001"
        async with running(a):
            await until(lambda: a.store.writable)
        assert cluster.backend.cluster_id == "LFSC0000000000000001"

    run(main)


def test_the_backend_still_names_this_node_from_before(cluster: Cluster) -> None:
    """A restarted node finds its own URL as primary: it must not follow itself, but wait for the old lease to end."""

    async def main() -> None:
        a, again = cluster.node("a"), cluster.node("x")
        await a.leaser.acquire()
        again.leaser.hostname, again.leaser.advertise_url = a.leaser.hostname, a.leaser.advertise_url
        async with running(again):
            await trio.sleep(5)
            assert again.role.primary is None
            await until(lambda: again.store.writable)

    run(main)


def test_events(cluster: Cluster) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        async with b.store.events.subscribe() as events, a.store.events.subscribe() as own:
            async with running(a, b) as scopes:
                await until(b.role.ready.is_set)
                scopes[a].cancel()
                await until(lambda: b.store.writable)
            found = drain(events)
            follow, gone = PrimaryChangeEvent(False, "a"), PrimaryChangeEvent(False, None)
            assert found[:2] == [follow, gone]
            assert PrimaryChangeEvent(True, None) in found
            assert found[-1] == gone
            assert drain(own) == [PrimaryChangeEvent(True, None), gone]

    run(main)


def drain(channel: trio.MemoryReceiveChannel[Event]) -> list[Event]:
    found = []
    while channel.statistics().current_buffer_used:
        found.append(channel.receive_nowait())
    return found


# -------------------------------------------------------------------------------------------------------- static lease


class StaticLease:
    id, ttl, supports_handoff = "static", math.inf, False

    async def renew(self) -> None:
        """Nothing."""

    async def release(self) -> None:
        """Nothing."""


class StaticLeaser(BaseLeaser):
    """As `lease.type: static` has it: a replica has its primary's URL as its own."""

    type = "static"

    def __init__(self, hostname: str, url: str, *, candidate: bool) -> None:
        super().__init__(hostname, url)
        self._candidate = candidate

    async def primary(self) -> PrimaryInfo | None:
        return None if self._candidate else self.info

    async def acquire(self) -> Any:
        if not self._candidate:
            raise LeaseHeld(self.info)
        return StaticLease()


def with_static(node: Node, *, candidate: bool) -> Node:
    leaser = StaticLeaser("a", "http://a:20202", candidate=candidate)
    node.machine = node.make_machine(leaser)
    return node


def test_static_pair(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a = with_static(cluster.node("a"), candidate=True)
        b = with_static(cluster.node("b", candidate=False), candidate=False)
        async with running(b):
            await trio.sleep(3)
            assert not b.role.ready.is_set()
            async with running(a) as scopes:
                await until(b.role.ready.is_set)
                with pytest.raises(LeaseError, match="static lease does not support handoff"):
                    await a.machine.handoff(2)
                await trio.sleep(1000)
                assert a.store.writable
                first = b.role.last_heartbeat_ms
                scopes[a].cancel()
                await until(lambda: b.role.primary is None)
                assert b.role.lag_ms() is not None  # what is known about a primary stays known
                assert b.role.last_heartbeat_ms >= first  # type: ignore[operator]
                await trio.sleep(100)
                assert b.role.lag_ms() > 100_000  # type: ignore[operator]

    run(main)
    text = "0000000000000002: disconnected from primary with error, retrying: invalid response: code=503 lease expired"
    assert text in messages(caplog)
