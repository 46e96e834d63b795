"""Applications write on a replica: the halt lock, and transactions of all kinds by way of the primary."""

from __future__ import annotations

import os
import time

import pytest

from tests.support.waiting import wait_for

from .application import Failed
from .conftest import Cluster, assert_same, rows, sql

MODES = pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])


@MODES
def test_writes_of_a_replica_are_the_primarys(cluster: Cluster, mode: str) -> None:
    a, b, c = cluster.start(mode, replicas=2)
    app = cluster.application(b)
    with pytest.raises(Failed, match="OperationalError"):
        app.sql("INSERT INTO t VALUES(-1)")
    app.halt()
    for number in range(1, 21):
        app.sql(f"INSERT INTO t VALUES({number})")
        assert a.pos("db") == b.pos("db")
    assert rows(a) == list(range(21))
    app.sql("CREATE TABLE big(x)")
    app.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 3000) "
            "INSERT INTO big SELECT randomblob(1000) FROM n")  # fmt: skip
    app.sql("DELETE FROM big")
    app.sql("VACUUM")
    assert a.pos("db") == b.pos("db")
    app.release()
    sql(a, "INSERT INTO t VALUES(21)")
    assert_same(a, b, c)
    with pytest.raises(Failed, match="OperationalError"):
        app.sql("INSERT INTO t VALUES(-1)", timeout=0)
    assert rows(b) == list(range(22))


@MODES
def test_the_primarys_applications_wait_and_read(cluster: Cluster, mode: str) -> None:
    a, b = cluster.start(mode)
    app, other = cluster.application(b), cluster.application(a)
    app.halt()
    assert other.sql("SELECT x FROM t", timeout=20) == [[0]]
    other.send("sql", "INSERT INTO t VALUES(2)")
    app.sql("INSERT INTO t VALUES(1)")
    assert rows(a) == [0, 1]
    app.release()
    other.answer()
    assert_same(a, b)
    assert rows(b) == [0, 1, 2]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_rollback_on_the_replica_makes_no_transaction(cluster: Cluster, mode: str) -> None:
    a, b = cluster.start(mode)
    app = cluster.application(b)
    app.halt()
    before = a.pos("db")
    app.sql("BEGIN")
    app.sql("INSERT INTO t VALUES(1)")
    app.sql("ROLLBACK")
    assert a.pos("db") == b.pos("db") == before
    app.sql("INSERT INTO t VALUES(2)")
    app.release()
    assert_same(a, b)


def test_two_replicas_take_turns(cluster: Cluster) -> None:
    a, b, c = cluster.start(replicas=2)
    one, two = cluster.application(b), cluster.application(c)
    one.halt()
    two.send("halt")
    one.sql("INSERT INTO t VALUES(1)")
    one.release()
    two.answer()
    two.sql("INSERT INTO t VALUES(2)")
    with pytest.raises(Failed):
        one.sql("INSERT INTO t VALUES(-1)")
    two.release()
    assert_same(a, b, c)
    assert rows(a) == [0, 1, 2]


def test_two_applications_of_one_replica_take_turns(cluster: Cluster) -> None:
    a, b = cluster.start()
    one, two = cluster.application(b), cluster.application(b)
    one.halt()
    two.send("halt")  # waits for the file lock in the operating system
    one.sql("INSERT INTO t VALUES(1)")
    one.release()
    two.answer()
    two.sql("INSERT INTO t VALUES(2)")
    two.release()
    assert_same(a, b)
    assert rows(a) == [0, 1, 2]


def test_the_second_replica_gives_up_after_ten_seconds(cluster: Cluster) -> None:
    a, b, c = cluster.start(replicas=2)
    one, two = cluster.application(b), cluster.application(c)
    one.halt()
    started = time.monotonic()
    with pytest.raises(Failed, match="Device or resource busy"):
        two.halt()
    assert 9 < time.monotonic() - started < 14
    one.sql("INSERT INTO t VALUES(1)")
    one.release()
    two.halt()
    two.release()
    assert_same(a, b, c)


def test_release_with_an_open_read_transaction(cluster: Cluster) -> None:
    a, b = cluster.start()
    app = cluster.application(b)
    app.halt()
    app.sql("INSERT INTO t VALUES(1)")
    app.sql("BEGIN")
    app.sql("SELECT * FROM t")
    app.release()
    sql(a, "INSERT INTO t VALUES(2)")
    b.wait_pos("db", a.pos("db"))
    assert app.sql("SELECT count(*) FROM t") == [[2]]  # its snapshot
    app.sql("COMMIT")
    assert_same(a, b)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_transaction_that_is_open_when_the_lock_is_released_cannot_commit(cluster: Cluster, mode: str) -> None:
    a, b = cluster.start(mode)
    app = cluster.application(b)
    app.halt()
    app.sql("BEGIN IMMEDIATE")
    app.sql("INSERT INTO t VALUES(-1)")
    app.release()
    sql(a, "INSERT INTO t VALUES(1)")
    with pytest.raises(Failed, match="OperationalError"):
        app.sql("COMMIT")
    app.close()
    assert_same(a, b)
    assert rows(b) == [0, 1]


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR | os.O_CREAT | os.O_APPEND, os.O_RDWR | os.O_CLOEXEC])
def test_open_modes(cluster: Cluster, flags: int) -> None:
    a, b = cluster.start()
    app = cluster.application(b)
    app.halt(flags)
    app.sql("INSERT INTO t VALUES(1)")
    app.release()
    assert_same(a, b)


def test_reading_the_lock_file_asks_for_nothing(cluster: Cluster) -> None:
    a, b = cluster.start()
    with open(b.path("db-lock"), "rb") as file:
        assert file.read() == b""
        sql(a, "INSERT INTO t VALUES(1)", timeout=1)


def test_a_database_made_on_the_replica(cluster: Cluster) -> None:
    a, b = cluster.start()
    app = cluster.application(b, "new")
    with open(b.path("new"), "ab"):  # an empty one: then there is a lock file
        pass
    app.halt()
    app.sql("PRAGMA journal_mode=WAL")
    app.sql("CREATE TABLE t(x)")
    app.sql("INSERT INTO t VALUES(1)")
    app.release()
    assert_same(a, b, name="new")
    sql(a, "INSERT INTO t VALUES(2)", name="new")
    assert_same(a, b, name="new")
    assert rows(b, "new") == [1, 2]


@pytest.mark.parametrize(("before", "after"), [("delete", "wal"), ("wal", "delete")])
def test_the_journal_mode_changes_on_the_replica(cluster: Cluster, before: str, after: str) -> None:
    a, b = cluster.start(before)
    app = cluster.application(b)
    app.halt()
    assert app.sql(f"PRAGMA journal_mode={after}") == [[after]]
    app.sql("INSERT INTO t VALUES(1)")
    app.sql("INSERT INTO t VALUES(2)")
    app.release()
    app.close()
    wait_for(lambda: sql(a, "INSERT INTO t VALUES(3)", timeout=1) == [], "a write on the primary")
    assert_same(a, b)
    assert rows(b) == [0, 1, 2, 3]


def test_a_database_is_deleted_on_the_primary_only(cluster: Cluster) -> None:
    a, b = cluster.start()
    app = cluster.application(b)
    app.halt()
    with pytest.raises(PermissionError):
        os.unlink(b.path("db"))
    with pytest.raises(OSError, match="busy"):
        os.unlink(a.path("db"))
    app.release()
    wait_for(lambda: os.unlink(a.path("db")) is None, "deletion")


def test_checkpoints_and_restarts_of_the_log(cluster: Cluster) -> None:
    a, b = cluster.start()
    app = cluster.application(b)
    app.halt()
    app.sql("PRAGMA wal_autocheckpoint=5")
    for number in range(1, 60):
        app.sql(f"INSERT INTO t VALUES({number})")
    assert app.sql("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0
    app.sql("INSERT INTO t VALUES(60)")
    app.release()
    sql(a, "INSERT INTO t VALUES(61)")
    assert_same(a, b)
    assert rows(b) == list(range(62))
