"""Nodes that die or fall silent, with real processes: who takes over, what is lost, where it is kept."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from litefs.store.branches import branches
from tests.support.relay import Relay
from tests.support.waiting import wait_for

from .cluster import Member, Writer, make_table, wait_primary, wait_same

pytestmark = pytest.mark.slow


def insert(node: Member, count: int, first: int) -> set[int]:
    """Rows that are acknowledged."""
    with Writer(node, first=first) as writer:
        writer.wait_acked(count)
    return set(writer.acked)


def test_the_most_advanced_takes_over_and_the_tail_is_kept(make_member: Callable[..., Member]) -> None:
    """The primary dies; one replica has heard less of it than the other. Then the old primary comes back."""
    a = make_member("a")
    relay = Relay(int(a.url.rpartition(":")[2]))
    a.configure_lease({"advertise-url": relay.url})
    a.start()
    b = make_member("b").start()
    c = make_member("c", **{"reconnect-delay": "1s"}).start()  # the better one is not the quicker one
    make_table(a)
    insert(a, 5, 0)
    wait_same(a, b)
    b.stop()
    only_c = insert(a, 5, 100)
    wait_same(a, c)
    with closing(relay):
        before = a.pos("db").txid
        with relay.stalled():
            tail = insert(a, 3, 1000)
            a.kill()
            b.spawn()
            wait_for(lambda: c.is_primary, f"primary c: {c.log()[-1000:]}")
        assert not b.is_primary
        b.wait_ready()
        assert only_c <= set(c.rows())
        assert not tail & set(c.rows()), "the test wants them to be lost"
        insert(c, 3, 2000)
        wait_same(c, b)
        a.start()
        wait_same(c, a)
    (branch,) = branches(a.data)
    assert (branch.database, branch.tip[:16]) == ("db", f"{before + len(tail):016x}")
    assert not branches(b.data)
    assert not branches(c.data)


def test_a_longer_tail_that_lost_does_not_win(make_member: Callable[..., Member]) -> None:
    """An old primary has more than the node that went on without it; it comes back when the new primary dies."""
    a = make_member("a")
    relay = Relay(int(a.url.rpartition(":")[2]))
    a.configure_lease({"advertise-url": relay.url})
    a.start()
    b = make_member("b").start()
    c = make_member("c", **{"reconnect-delay": "5s"}).start()  # the old one is to come first, if b was primary
    make_table(a)
    insert(a, 5, 0)
    wait_same(a, b)
    wait_same(a, c)
    with closing(relay):
        with relay.stalled():
            tail = insert(a, 20, 1000)
            a.kill()
            new = wait_primary([b, c])
        other = c if new is b else b
        newer = insert(new, 3, 2000)
        wait_for(lambda: new.pos("db") == other.pos("db"), "another one with everything")
        assert newer <= set(other.rows())
        new.kill()
        a.spawn()
        assert wait_primary([a, other]) is other, a.log()[-1000:]
        a.wait_ready()
        wait_same(other, a)
    assert newer <= set(a.rows())
    assert not tail & set(a.rows())
    (branch,) = branches(a.data)
    assert branch.database == "db"


@pytest.mark.alone
def test_a_silent_primary_is_left(make_member: Callable[..., Member]) -> None:
    """It is stopped, its connections stay open: its replica learns from the lease that it is none any more."""
    a, b = make_member("a").start(), make_member("b").start()
    a.expected.append("primary lease lost")
    make_table(a)
    wait_same(a, b)
    a.pause()
    started = time.monotonic()
    wait_for(lambda: b.is_primary, "primary b")
    assert time.monotonic() - started < 8, "longer than a lease and a look at it"
    a.resume()
    insert(b, 3, 0)
    wait_same(b, a)


@pytest.mark.alone
def test_promote_does_not_hang_on_a_silent_primary(make_member: Callable[..., Member]) -> None:
    a = make_member("a", file={"ttl": "30s"}).start()
    b = make_member("b", file={"ttl": "30s"}).start()
    a.pause()
    started = time.monotonic()
    with pytest.raises(OSError, match="500"):
        b.post("/promote")
    assert time.monotonic() - started < 6
    a.resume()


def test_a_primary_that_stops_waits_for_a_replica_that_is_stuck(make_member: Callable[..., Member]) -> None:
    """It goes on writing until there is somebody who can have all of it."""
    a = make_member("a")
    relay = Relay(int(a.url.rpartition(":")[2]))
    a.configure_lease({"advertise-url": relay.url})
    a.start()
    b = make_member("b").start()
    make_table(a)
    wait_same(a, b)
    with closing(relay), Writer(a) as writer:
        writer.wait_acked(20)
        with ThreadPoolExecutor() as pool:
            with relay.stalled():
                with closing(sqlite3.connect(a.path("db"), timeout=10)) as connection, connection:
                    connection.execute("CREATE TABLE big AS SELECT randomblob(30000000)")  # more than sockets hold
                stopped = pool.submit(a.stop)
                wait_for(lambda: "cannot hand over to node" in a.log(), "a first try that fails")
                writer.wait_acked(20)
            wait_for(lambda: b.is_primary, "primary b")
            assert stopped.result() == 0
        acked = set(writer.stop())
    assert acked <= set(b.rows())
    a.start()
    wait_same(b, a)
    assert not branches(a.data)


def test_rolling_restart_under_writers(make_member: Callable[..., Member]) -> None:
    """All three in turn, the primary first each time; writers go where the primary is."""
    nodes = [make_member(name).start() for name in "abc"]
    primary = wait_primary(nodes)
    make_table(primary)
    acked: set[int] = set()
    for turn in range(3):
        for node in nodes:
            if node is not primary:
                wait_same(primary, node)
        with Writer(primary, first=turn * 10**6) as writer:
            writer.wait_acked(20)
            assert primary.stop() == 0
            others = [node for node in nodes if node is not primary]
            successor = wait_primary(others)
            acked |= set(writer.acked)
        primary.start()
        primary = successor
    for node in nodes:
        if node is not primary:
            wait_same(primary, node)
    assert acked <= set(primary.rows())
    assert not [node.name for node in nodes if branches(node.data)]
