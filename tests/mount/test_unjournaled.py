"""Writes without a journal: journal_mode OFF and MEMORY."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from litefs.ltx import EMPTY, Pos
from tests.support.nodes import Node
from tests.support.waiting import wait_for

from .application import check, connect, fill, make_database, rows

Opened = Callable[..., sqlite3.Connection]
pytestmark = pytest.mark.slow
MODES = pytest.mark.parametrize("mode", ["off", "memory"])


@MODES
def test_refused_on_a_database(node: Node, opened: Opened, mode: str) -> None:
    node.expected.append("refused a write without a rollback journal: journal_mode=OFF and MEMORY cannot be replicated")
    fill(opened(node.path("db")), 10)
    pos = check(node)
    database = opened(node.path("db"), journal=mode)
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        database.execute("INSERT INTO t (data) VALUES ('no')")
    database.close()
    assert "use PRAGMA journal_mode=WAL or DELETE" in node.log()
    assert check(node) == pos
    fill(opened(node.path("db")), 1)
    assert check(node).txid == pos.txid + 1


@MODES
def test_refused_on_a_new_one(node: Node, opened: Opened, mode: str) -> None:
    node.expected.append("refused a write without a rollback journal")
    database = opened(node.path("db"), journal=mode)
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        database.execute("CREATE TABLE t (x)")
    database.close()
    fill(opened(node.path("db")), 1)
    assert check(node).txid == 1


@MODES
def test_captured_when_told_so(capturing: Node, opened: Opened, mode: str) -> None:
    database = opened(capturing.path("db"), journal=mode)
    for _ in range(5):
        fill(database, 20)
    database.execute("DELETE FROM t WHERE id > 50")
    database.execute("VACUUM")
    before = rows(database)
    database.close()
    assert check(capturing).txid > 1
    assert rows(opened(capturing.path("db"))) == before


def test_captured_with_the_next_transaction(capturing: Node, opened: Opened) -> None:
    fill(opened(capturing.path("db")), 10)
    database = opened(capturing.path("db"), journal="off", synchronous="off")
    fill(database, 10)
    opened(capturing.path("db")).execute("INSERT INTO t (data) VALUES ('journaled')")
    check(capturing)
    assert len(rows(database)) == 21


def test_captured_before_the_wal_takes_over(capturing: Node, opened: Opened) -> None:
    fill(opened(capturing.path("db")), 10)
    database = opened(capturing.path("db"), journal="off")
    fill(database, 10)
    database.execute("PRAGMA journal_mode = wal")
    fill(database, 10)
    database.close()
    check(capturing)


def test_a_copy_onto_a_database(capturing: Node, opened: Opened, tmp_path: Path) -> None:
    database = connect(capturing.path("db"))
    fill(database, 100)
    database.close()
    make_database(tmp_path / "source", count=20, page_size=1024)
    shutil.copyfile(tmp_path / "source", capturing.path("db"))
    check(capturing)
    assert rows(opened(capturing.path("db"))) == rows(opened(tmp_path / "source"))
    with open(capturing.path("db"), "wb"):
        pass
    wait_for(lambda: capturing.pos("db").checksum == EMPTY, "empty database")
    assert capturing.pos("db") == Pos(3, EMPTY)
