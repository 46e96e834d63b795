"""Who takes a lease that is free: in virtual time."""

from __future__ import annotations

import re

import pytest
import trio

from litefs.cluster.election import ASK_LIMIT, Standing

from .fakes import Cluster, Node, until
from .running import crash, messages, run, running


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
            c.machine._search._reached = why != "not eligible"
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


@pytest.mark.parametrize("terms", [True, False], ids=["by term", "without terms"])
def test_a_longer_tail_that_lost_does_not_win(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, terms: bool
) -> None:
    """An old primary counts more than those that went on without it; it comes back when the new one dies."""
    if not terms:  # what happened then
        monkeypatch.setattr(Standing, "outranks", lambda self, other: self.transactions > other.transactions)

    async def main() -> None:
        a, b, c = three(cluster)
        async with running(a, b, c) as scopes:
            await first_write(a, b, c)
            b.follower.deaf = c.follower.deaf = True
            for n in range(5):
                a.store.databases["db"].write({1: b"tail %d" % n})
            await trio.sleep(1)
            crash(a, scopes[a])
            b.follower.deaf = c.follower.deaf = False
            for node in (b, c):
                node.follower.cut("gone")
            await until(lambda: b.store.writable or c.store.writable)
            if c.store.writable:
                b, c = c, b
            await until(lambda: c.terms.held == b.terms.held)
            newer = b.store.databases["db"].write({1: b"acknowledged"})
            await until(lambda: c.store.databases["db"].pos == newer)
            assert a.terms.held < b.terms.held
            crash(b, scopes[b])
            c.follower.cut("gone")
            a.follower.nodes = c.follower.nodes = {}  # what they would be sent comes from a thread: see `first_write`
            async with running(a):
                await until(lambda: a.store.writable or c.store.writable)
                assert c.store.writable is terms
                assert a.store.writable is not terms

    run(main)
    if terms:
        assert re.search("0000000000000001: [bc] has a newer history: waiting for it to become primary", caplog.text)


def test_who_outranks_whom() -> None:
    def node(term: int, transactions: int) -> Standing:
        return Standing("", term, transactions, True)

    assert node(6, 1).outranks(node(5, 100))
    assert not node(5, 100).outranks(node(6, 1))
    assert node(6, 2).outranks(node(6, 1))
    assert not node(6, 1).outranks(node(6, 1))
    assert node(0, 2).outranks(node(6, 1)), "of the one without a term nobody knows"
    assert node(6, 2).outranks(node(0, 1))
    assert not node(6, 1).outranks(node(0, 1))
    assert not node(0, 1).outranks(node(6, 1))


def test_a_node_that_has_not_replaced_its_tail_claims_no_newer_term(cluster: Cluster) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        async with running(a):
            await until(lambda: a.store.writable)
            old = a.terms.held
        a.store.add("db").write({1: b"tail"})
        b.store.cluster_id = a.store.cluster_id
        await trio.sleep(1)  # they never hear of each other: what tells their terms apart is the clock
        async with running(b):
            await until(lambda: b.store.writable)
            assert b.terms.held > old
            b.store.add("db").write({1: b"newer"})
            a.follower.deaf = True  # connected, and nothing has arrived
            async with running(a):
                await until(lambda: a.role.primary is not None)
                await trio.sleep(1)
                assert a.terms.held == a.make_terms().held == old
                a.follower.deaf = False
                a.follower.cut("again")
                await until(lambda: a.terms.held == b.terms.held)
                assert a.store.databases["db"].pos == b.store.databases["db"].pos
                assert a.make_terms().held == b.terms.held

    run(main)


def test_each_tenure_has_a_term_before_it_may_write(cluster: Cluster) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        terms: list[int] = []

        def began(node: Node) -> None:
            assert node.make_terms().held == node.terms.held, "durable"
            terms.append(node.terms.held)

        async with running(a, b):
            await until(b.role.ready.is_set)
            began(a)
            await b.machine.promote()
            await until(lambda: b.store.writable)
            began(b)
            await until(lambda: a.terms.held == b.terms.held)
            cluster.backend.holder = None
            last = b.terms.held
            await until(lambda: any(node.store.writable and node.terms.held > last for node in (a, b)))
            began(a if a.store.writable else b)
        async with running(a):
            await until(lambda: a.store.writable)
            began(a)
        assert terms == sorted(set(terms))
        assert len(terms) == 4

    run(main)


def test_without_a_durable_term_nobody_leads(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")

        def full(text: str) -> None:
            raise OSError(28, "No space left on device")

        b.store.cluster_id = a.store.cluster_id = cluster.backend.cluster_id = "LFSC0000000000000001"

        a.terms._write = full  # type: ignore[method-assign]
        async with running(a):
            await trio.sleep(3)
            assert not a.store.writable
            async with running(b):
                await until(lambda: b.store.writable, 12)
                assert not a.store.writable

    run(main)
    assert "0000000000000001: primary lease lost, retrying: [Errno 28] No space left on device" in messages(caplog)
