"""A deleted rollback journal is kept, empty, for the next transaction."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from sqlite3 import Connection

from tests.support.nodes import Node

from .application import check, die_after

Opened = Callable[..., Connection]


def spare(node: Node) -> Path:
    return node.files("db") / "journal.tmp"


def journal(node: Node) -> Path:
    return node.files("db") / "journal"


def test_it_is_used_again(node: Node, opened: Opened) -> None:
    connection = opened(node.path("db"), journal="delete")
    connection.execute("CREATE TABLE t(v)")
    for number in range(3):
        assert not journal(node).exists()
        assert spare(node).stat().st_size == 0
        kept = spare(node).stat().st_ino
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES(randomblob(100))")
        connection.execute("PRAGMA cache_spill = 1")
        assert journal(node).stat().st_ino == kept
        assert not spare(node).exists()
        connection.execute("ROLLBACK" if number == 1 else "COMMIT")
    check(node)
    connection.close()
    (node.mount / "db").unlink()
    assert not spare(node).exists()


def test_one_that_somebody_reads_is_not_used_again(node: Node, opened: Opened) -> None:
    connection = opened(node.path("db"), journal="delete")
    connection.execute("CREATE TABLE t(v)")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t VALUES(1)")
    fd = os.open(node.path("db-journal"), os.O_RDONLY)
    try:
        connection.execute("COMMIT")
        content = os.pread(fd, 1 << 20, 0)
        assert content
        connection.execute("INSERT INTO t VALUES(2)")
        assert os.fstat(fd).st_size == len(content)
        assert os.pread(fd, 1 << 20, 0) == content
    finally:
        os.close(fd)
    check(node)


def test_it_never_looks_hot(node: Node, opened: Opened) -> None:
    connection = opened(node.path("db"), journal="delete")
    connection.execute("CREATE TABLE t(v)")
    connection.execute("INSERT INTO t VALUES(1)")
    connection.close()
    die_after(node.path("db"), "PRAGMA journal_mode = delete", "BEGIN IMMEDIATE", "INSERT INTO t VALUES(2)")
    node.kill()
    node.start()
    assert opened(node.path("db")).execute("SELECT v FROM t").fetchall() == [(1,)]
    check(node)
