"""What SQLite does with its files within a transaction, and around it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

import pytest

from litefs.ltx import EMPTY, Pos
from tests.support.nodes import Node
from tests.support.waiting import wait_for

from .application import check, die_after, fill, rows

Opened = Callable[..., sqlite3.Connection]
pytestmark = pytest.mark.slow
MODES = pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])


@MODES
def test_cache_spill(node: Node, opened: Opened, mode: str) -> None:
    database = opened(node.path("db"), journal=mode, cache_size=5)
    fill(database, 100)
    before, pos = rows(database), check(node)
    for end in ("ROLLBACK", "COMMIT"):
        database.execute("BEGIN")
        database.execute("UPDATE t SET data = randomblob(1500)")
        database.execute("INSERT INTO t (data) SELECT randomblob(700) FROM t")
        database.execute(end)
        if end == "ROLLBACK":
            assert rows(database) == before
            assert check(node) == pos
    assert check(node).txid == pos.txid + 1


@MODES
def test_savepoints(node: Node, opened: Opened, mode: str) -> None:
    """Spilled, rolled back and written again; so SQLite overwrites frames of the WAL, and may leave a hole in it."""
    database = opened(node.path("db"), journal=mode, cache_size=5)
    fill(database, 60)
    pos = check(node)
    for _ in range(4):
        database.execute("SAVEPOINT a")
        database.execute("UPDATE t SET data = randomblob(1100)")
        database.execute("SAVEPOINT b")
        database.execute("UPDATE t SET data = randomblob(900)")
        database.execute("ROLLBACK TO b")
        database.execute("UPDATE t SET data = randomblob(1200) WHERE id % 2")
        database.execute("ROLLBACK TO a")
        database.execute("UPDATE t SET data = randomblob(1300) WHERE id % 3 = 0")
        database.execute("RELEASE a")
    before = rows(database)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert node.pos("db").txid == pos.txid + 4
    database.close()
    assert check(node).txid == pos.txid + 4
    assert rows(opened(node.path("db"))) == before


@MODES
@pytest.mark.parametrize("page_size", [512, 1024, 65536])
def test_vacuum_to_another_page_size(node: Node, opened: Opened, mode: str, page_size: int) -> None:
    database = opened(node.path("db"), auto_vacuum="full")
    fill(database, 100)
    database.execute("DELETE FROM t WHERE id > 30")
    database.execute(f"PRAGMA page_size = {page_size}")
    database.execute("VACUUM")
    check(node)
    assert database.execute("PRAGMA page_size").fetchone() == (page_size,)
    database.execute(f"PRAGMA journal_mode = {mode}")
    fill(database, 100)
    check(node)


@pytest.mark.parametrize("mode", ["delete", "persist"])
def test_super_journal(node: Node, opened: Opened, mode: str) -> None:
    database = opened(node.path("a"), journal=mode)
    database.execute("ATTACH ? AS other", (node.path("b"),))
    database.execute(f"PRAGMA other.journal_mode = {mode}")
    fill(database, 3, table="main.t")
    fill(database, 3, table="other.u")
    a, b = check(node, "a"), check(node, "b")
    for end in ("COMMIT", "ROLLBACK"):
        database.execute("BEGIN")
        database.execute("INSERT INTO t (data) VALUES ('both')")
        database.execute("INSERT INTO u (data) VALUES ('both')")
        database.execute(end)
        assert (check(node, "a").txid, check(node, "b").txid) == (a.txid + 1, b.txid + 1)
    assert not [name for name in os.listdir(node.mount) if "-mj" in name]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_exclusive_locking(node: Node, opened: Opened, mode: str) -> None:
    """In WAL mode SQLite keeps the wal-index in its own memory then."""
    database = opened(node.path("db"), locking_mode="exclusive", journal=mode, wal_autocheckpoint=7)
    for _ in range(20):
        fill(database, 2)
    assert not os.path.exists(node.path("db-shm"))
    txid = check(node).txid
    assert txid == (21 if mode == "wal" else 20)
    database.close()
    fill(opened(node.path("db")), 1)
    assert check(node).txid == txid + 1


@MODES
def test_a_process_dies(node: Node, opened: Opened, mode: str) -> None:
    """In the middle of a transaction that has spilled: who comes next rolls it back."""
    database = opened(node.path("db"), journal=mode)
    fill(database, 100)
    before, pos = rows(database), check(node)
    database.close()
    die_after(
        node.path("db"), f"PRAGMA journal_mode = {mode}", "PRAGMA cache_size = 5", "BEGIN",
        "UPDATE t SET data = randomblob(1500)",
    )  # fmt: skip
    assert node.pos("db") == pos
    database = opened(node.path("db"))
    assert rows(database) == before
    assert check(node) == pos
    fill(database, 1)
    assert check(node).txid == pos.txid + 1


def test_a_log_that_went_with_its_database_may_be_deleted(node: Node, opened: Opened) -> None:
    """The kernel hears of it a moment later; SQLite, which finds a log beside an empty database, deletes it."""
    fill(opened(node.path("db"), journal="wal"), 10)
    os.unlink(node.path("db"))
    if os.path.exists(node.path("db-wal")):
        os.unlink(node.path("db-wal"))
    wait_for(lambda: not os.path.exists(node.path("db-wal")), "end of the log")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_deleted_while_open(node: Node, opened: Opened, mode: str) -> None:
    """Who has it open keeps the deleted files, and what is made anew under the name is another database."""
    old = opened(node.path("db"), journal=mode)
    fill(old, 10)
    txid = check(node).txid
    os.unlink(node.path("db"))
    assert node.pos("db") == Pos(txid + 1, EMPTY)
    new = opened(node.path("db"), journal=mode)
    fill(new, 3)
    pos = check(node)
    with pytest.raises(sqlite3.OperationalError):
        fill(old, 10)
    old.close()
    assert check(node) == pos
    assert len(rows(new)) == 3
    fill(new, 3)
    check(node)
