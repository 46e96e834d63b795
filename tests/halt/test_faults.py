"""The halt lock when something fails: nothing half done, nothing on one node only, nobody blocked for good."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.waiting import wait_for

from .application import Failed
from .conftest import Cluster, assert_same, rows, sql
from .relay import Relay

MODES = pytest.mark.parametrize("mode", ["wal", "delete"])


class Relayed(Cluster):
    """A primary, and a replica that reaches it through a relay."""

    def begin(self, mode: str) -> None:
        """Start it all."""
        self.a, *_ = self.start(mode, replicas=0)
        self.relay = Relay(self.a.url)
        self.b = self._make("b", primary=self.a, settings={"lease": {"advertise-url": self.relay.url}}).start()
        self.b.wait_pos("db", self.a.pos("db"))
        self.app = self.application(self.b)


@pytest.fixture
def pair(make_node: object) -> Iterator[Relayed]:
    made = Relayed(make_node)  # type: ignore[arg-type]
    yield made
    made.close()
    made.relay.close()


@MODES
def test_a_lost_answer_is_no_lost_transaction(pair: Relayed, mode: str) -> None:
    pair.begin(mode)
    pair.app.halt()
    pair.relay.lose_answers = 1
    pair.app.sql("INSERT INTO t VALUES(1)")
    assert pair.relay.lost.is_set()
    assert pair.a.pos("db") == pair.b.pos("db")
    pair.app.sql("INSERT INTO t VALUES(2)")
    pair.app.release()
    sql(pair.a, "INSERT INTO t VALUES(3)")
    assert_same(pair.a, pair.b)
    assert rows(pair.a) == [0, 1, 2, 3]


@MODES
def test_a_lost_request_is_sent_again(pair: Relayed, mode: str) -> None:
    pair.begin(mode)
    pair.app.halt()
    pair.relay.lose_requests = 2
    pair.app.sql("INSERT INTO t VALUES(1)")
    assert pair.relay.lost.is_set()
    pair.app.release()
    assert_same(pair.a, pair.b)
    assert rows(pair.a) == [0, 1]


@MODES
def test_the_stream_is_answer_enough(pair: Relayed, mode: str) -> None:
    """Every answer of /tx is lost, and the primary cannot be asked again; only the stream goes on."""
    pair.begin(mode)
    pair.app.halt()
    pair.relay.lose_answers = 1
    pair.relay.lose_requests = 0
    pair.app.send("sql", "INSERT INTO t VALUES(1)")
    pair.relay.lost.wait(20)
    pair.relay.lose_requests = 1000
    pair.app.answer()
    pair.relay.lose_requests = 0
    pair.app.sql("INSERT INTO t VALUES(2)")
    pair.app.release()
    assert_same(pair.a, pair.b)
    assert rows(pair.a) == [0, 1, 2]


@MODES
def test_the_network_goes_before_the_request(pair: Relayed, mode: str) -> None:
    pair.begin(mode)
    pair.app.halt()
    pair.app.sql("INSERT INTO t VALUES(1)")
    pair.relay.cut()
    started = time.monotonic()
    with pytest.raises(Failed, match="OperationalError"):
        pair.app.sql("INSERT INTO t VALUES(-1)")
    assert time.monotonic() - started < 15
    assert pair.app.sql("SELECT count(*) FROM t") == [[2]]
    pair.app.release()
    pair.relay.mend()
    sql(pair.a, "INSERT INTO t VALUES(2)", timeout=40)
    assert_same(pair.a, pair.b)
    assert rows(pair.b) == [0, 1, 2]


@MODES
def test_the_network_goes_after_the_request(pair: Relayed, mode: str) -> None:
    """The primary has committed, and the replica does not know: refused there, and then it arrives."""
    pair.begin(mode)
    pair.app.halt()
    pair.relay.lose_answers = 1
    pair.app.send("sql", "INSERT INTO t VALUES(1)")
    pair.relay.lost.wait(20)
    pair.relay.cut()
    acknowledged = True
    try:
        pair.app.answer()
    except Failed:
        acknowledged = False
    pair.app.close()
    pair.app.release()
    pair.relay.mend()
    assert rows(pair.a) == [0, 1]
    sql(pair.a, "INSERT INTO t VALUES(2)", timeout=40)
    assert_same(pair.a, pair.b)
    assert rows(pair.b) == [0, 1, 2], acknowledged


@MODES
def test_a_network_that_drops_everything(pair: Relayed, mode: str) -> None:
    pair.begin(mode)
    pair.app.halt()
    pair.relay.hold()
    started = time.monotonic()
    with pytest.raises(Failed, match="OperationalError"):
        pair.app.sql("INSERT INTO t VALUES(-1)")
    assert time.monotonic() - started < 20  # silence of the stream
    pair.app.close()
    pair.app.release()
    pair.relay.mend()
    wait_for(lambda: sql(pair.a, "INSERT INTO t VALUES(2)", timeout=1) == [], "a write on the primary", 40)
    assert_same(pair.a, pair.b)
    assert 2 in rows(pair.b)


@MODES
def test_the_application_is_killed(cluster: Cluster, mode: str) -> None:
    a, b = cluster.start(mode)
    for number in range(6):
        app = cluster.application(b)
        app.halt()
        for _ in range(3):
            app.sql(f"INSERT INTO t VALUES({number})")
        app.send("sql", f"INSERT INTO t VALUES({number})")
        app.kill()
        sql(a, "INSERT INTO t VALUES(100)", timeout=10)  # its lock went with it
    assert_same(a, b)
    found = rows(a)
    assert all(3 <= found.count(number) <= 4 + (number == 0) for number in range(6))


@MODES
def test_the_primary_is_killed(cluster: Cluster, mode: str) -> None:
    a, b = cluster.start(mode)
    app = cluster.application(b)
    app.halt()
    for number in range(1, 4):
        app.sql(f"INSERT INTO t VALUES({number})")
    a.kill()
    started = time.monotonic()
    with pytest.raises(Failed, match="OperationalError"):
        app.sql("INSERT INTO t VALUES(-1)")
    assert time.monotonic() - started < 10
    a.start()
    sql(a, "INSERT INTO t VALUES(4)", timeout=1)  # it knows of no lock any more
    app.close()
    app.release()
    assert_same(a, b)
    assert rows(b) == [0, 1, 2, 3, 4]
    app.halt()
    app.sql("INSERT INTO t VALUES(5)")
    app.release()
    assert_same(a, b)


def test_the_primary_stops(cluster: Cluster) -> None:
    a, b = cluster.start()
    app = cluster.application(b)
    app.halt()
    app.sql("INSERT INTO t VALUES(1)")
    assert a.stop() == 0
    with pytest.raises(Failed, match="OperationalError"):
        app.sql("INSERT INTO t VALUES(-1)")
    with pytest.raises(Failed, match="No route to host"):
        cluster.application(b).halt()
    app.close()
    a.start()
    assert_same(a, b)
    assert rows(a) == [0, 1]


def test_the_primary_stands_still(cluster: Cluster) -> None:
    a, b = cluster.start()
    app = cluster.application(b)
    app.halt()
    assert a.process is not None
    os.kill(a.process.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(Failed, match="OperationalError"):
            app.sql("INSERT INTO t VALUES(1)")
        assert time.monotonic() - started < 20
        app.close()
    finally:
        os.kill(a.process.pid, signal.SIGCONT)
    app.release()
    sql(a, "INSERT INTO t VALUES(2)", timeout=40)
    assert_same(a, b)  # with what the primary found in its queue, or without it


def test_the_replica_stops(cluster: Cluster) -> None:
    a, b = cluster.start()
    app = cluster.application(b)
    app.halt()
    app.sql("INSERT INTO t VALUES(1)")
    app.close()
    assert b.stop() == 0
    sql(a, "INSERT INTO t VALUES(2)", timeout=3)  # it has given the lock back
    b.start()
    assert_same(a, b)


def test_the_replica_is_killed(cluster: Cluster) -> None:
    a, b = cluster.start()
    app = cluster.application(b)
    app.halt()
    for number in range(1, 30):
        app.sql(f"INSERT INTO t VALUES({number})")
    app.send("sql", "INSERT INTO t VALUES(30)")
    b.kill()
    killed = time.monotonic()
    app.kill()
    b.start()
    app = cluster.application(b)
    with pytest.raises(Failed, match="Device or resource busy"):
        app.halt()  # the primary still waits for the one that was killed
    sql(a, "INSERT INTO t VALUES(31)", timeout=40)
    assert time.monotonic() - killed < 35
    assert_same(a, b)
    assert [x for x in rows(a) if x < 30] == list(range(30))
