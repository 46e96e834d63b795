"""A program that has opened a database in the directory which the mount hides must not write into the real one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.nodes import Node

pytestmark = pytest.mark.slow


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """One that holds a row, and is stopped."""
    found = Node(tmp_path / "a").start()
    with closing(sqlite3.connect(found.path("db"))) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES ('real')")
        connection.commit()
    assert found.stop() == 0
    yield found
    found.destroy()


def rows(node: Node) -> list[str]:
    with closing(sqlite3.connect(node.path("db"))) as connection:
        return [row for (row,) in connection.execute("SELECT x FROM t")]


def test_a_log_of_a_database_that_was_made_below_the_mount(node: Node) -> None:
    """SQLite opens the log after the database: another thread of it may be in between when the mount comes."""
    node.expected.append("the mount hides db")
    below = os.open(node.path("db"), os.O_RDWR | os.O_CREAT)
    try:
        node.start()
        for side in ("db-wal", "db-shm", "db-journal"):
            with pytest.raises(OSError, match="Input/output error"):
                os.close(os.open(node.path(side), os.O_RDWR | os.O_CREAT))
        assert "has opened it before this mount was there" in node.log()
        os.close(os.open(node.path("db"), os.O_RDWR))  # now it has the real one as well
        os.close(os.open(node.path("db-wal"), os.O_RDWR | os.O_CREAT))
    finally:
        os.close(below)
    assert rows(node) == ["real"]


def test_a_connection_to_a_database_that_was_made_below_the_mount(node: Node) -> None:
    node.expected.append("the mount hides db")
    with closing(sqlite3.connect(node.path("db"), isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        node.start()
        pos = node.pos("db")
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("INSERT INTO t VALUES ('of another file')")
    assert node.pos("db") == pos
    assert rows(node) == ["real"]


def test_a_program_that_has_opened_it_in_the_mount_as_well(node: Node) -> None:
    """It is older than the mount, and that is all."""
    node.start()
    with closing(sqlite3.connect(node.path("db"), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal").fetchall()
        connection.execute("INSERT INTO t VALUES ('more')")
    assert rows(node) == ["real", "more"]
