"""A program that closes any descriptor of its database loses the locks of its connections, as POSIX wants it."""

from __future__ import annotations

import os
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.nodes import Node
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    found = Node(tmp_path / "a").start()
    yield found
    found.destroy()


def is_open_in_client(node: Node) -> bool:
    """Whether the node's client process has the database open."""
    assert node.process is not None
    pid = node.process.pid
    [client] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return node.path("db") in [os.readlink(entry) for entry in Path(f"/proc/{client}/fd").iterdir()]


def export(node: Node) -> bytes:
    with urllib.request.urlopen(f"{node.url}/export?name=db", timeout=30) as response:
        return bytes(response.read())


def test_the_node_does_not_take_the_log_from_a_program_without_locks(node: Node) -> None:
    with closing(sqlite3.connect(node.path("db"), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal").fetchall()
        connection.execute("CREATE TABLE t (x)")
        Path(node.path("db")).open("rb").close()
        assert export(node)
        assert is_open_in_client(node)
        wait_for(lambda: not is_open_in_client(node), "closing of the database that nobody uses")
        assert Path(node.path("db-wal")).exists()
        connection.execute("INSERT INTO t VALUES (1)")
    with closing(sqlite3.connect(node.path("db"))) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
