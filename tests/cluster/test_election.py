"""Who takes a lease that is free: in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from litefs.cluster.election import ASK_LIMIT

from .fakes import Cluster, Node, until
from .running import crash, messages, run, running


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


async def fall_behind(a: Node, behind: Node, count: int = 3) -> None:
    """Have `a` write what does not reach one of its replicas."""
    behind.follower.deaf = True
    db = a.store.databases["db"]
    for n in range(count):
        db.write({1: b"%d" % n})
    await trio.sleep(2)


def three(cluster: Cluster) -> tuple[Node, Node, Node]:
    return cluster.node("a"), cluster.node("b"), cluster.node("c")


async def first_write(a: Node, *others: Node) -> None:
    """All have it. Not before they connect: then it would be sent by a thread, and time is another one there."""
    await until(lambda: all(node.role.ready.is_set() for node in others))
    pos = a.store.add("db").write({1: b"first"})
    await until(lambda: all("db" in node.store.databases and node.store.databases["db"].pos == pos for node in others))


def test_the_one_with_most_transactions_takes_over(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a, b, c = three(cluster)
        b.machine._reconnect_delay, c.machine._reconnect_delay = 0.3, 3  # the better one is not the quicker one
        async with running(a, b, c) as scopes:
            await first_write(a, b, c)
            await fall_behind(a, b)
            crash(a, scopes[a])
            b.follower.cut("gone")
            b.follower.nodes = {}  # it stays behind: what it would be sent comes from a thread as well
            await until(lambda: b.store.writable or c.store.writable)
            assert c.store.writable

    run(main)
    assert "0000000000000002: c has 3 more transactions: waiting for it to become primary" in messages(caplog)


def test_the_wait_for_a_better_one_is_bounded(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a, b, c = three(cluster)
        async with running(a, b) as scopes:
            async with running(c) as others:
                await first_write(a, b, c)
                await fall_behind(a, b)
                others[c].cancel()
            c.running = True  # it answers, but does nothing
            crash(a, scopes[a])
            b.follower.cut("gone")
            assert cluster.backend.holder is not None
            await trio.sleep(cluster.backend.holder.until - trio.current_time())
            free = trio.current_time()
            await until(lambda: b.store.writable)
            assert 5 <= trio.current_time() - free < 5 + 3

    run(main)
    text = (
        "0000000000000002: c has 3 more transactions, but has not become primary within 5 s: taking over without them"
    )
    assert text in messages(caplog)


@pytest.mark.parametrize("why", ["not eligible", "another cluster", "does not answer", "gone", "behind"])
def test_whom_nobody_waits_for(cluster: Cluster, why: str) -> None:
    async def main() -> None:
        a, b, c = three(cluster)
        async with running(a, b) as scopes:
            async with running(c) as others:
                await first_write(a, b, c)
                await fall_behind(a, c if why == "behind" else b)
                others[c].cancel()
            c.running = why != "gone"
            c.hanging = why == "does not answer"
            c.machine._reached = why != "not eligible"
            if why == "another cluster":
                c.store.cluster_id = "LFSC0000000000000001"
            crash(a, scopes[a])
            b.follower.cut("gone")
            assert cluster.backend.holder is not None
            await trio.sleep(cluster.backend.holder.until - trio.current_time())
            free = trio.current_time()
            await until(lambda: b.store.writable)
            assert trio.current_time() - free <= ASK_LIMIT + 1.1
            assert any(url == c.leaser.advertise_url for url, _ in b.peers.asked)

    run(main)


def test_equal_nodes_do_not_wait_for_each_other(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a, b, c = three(cluster)
        async with running(a, b, c) as scopes:
            await first_write(a, b, c)
            crash(a, scopes[a])
            assert cluster.backend.holder is not None
            await trio.sleep(cluster.backend.holder.until - trio.current_time())
            free = trio.current_time()
            await until(lambda: b.store.writable or c.store.writable)
            assert trio.current_time() - free <= 1.1

    run(main)
    assert "waiting for it to become primary" not in caplog.text


def test_a_node_without_data_lets_a_restarted_primary_go_first(cluster: Cluster) -> None:
    """It knows the last primary from the lease, and over a restart of its own from a file."""

    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        async with running(a, b):
            await first_write(a, b)
        b.store.databases.clear()
        b.follower.nodes = {}  # it stays empty: what it would be sent comes from a thread as well
        b.members._known = {member.advertise_url: member for member in b.members._load()}
        cluster.backend.holder = None
        async with running(b):  # the first to look
            assert not b.store.writable
            async with running(a):
                await until(lambda: a.store.writable, 5)
                assert not b.store.writable

    run(main)
