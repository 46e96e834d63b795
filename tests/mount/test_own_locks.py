"""What the node locks and opens for its own purposes gets in no application's way."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.nodes import Node
from tests.support.programs import find_program
from tests.support.waiting import wait_for

SLOW = 0.8  # seconds that a sync takes: several times what a writer gets before anyone looks after it

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


@contextmanager
def slow_syncs(node: Node) -> Iterator[None]:
    """The node's disk is slow."""
    assert node.process is not None
    strace = find_program("strace", "strace", "STRACE_BIN", "scripts/test")
    words = [strace, "-f", "-p", str(node.process.pid), "-o", os.devnull]
    inject = ["-e", "trace=fdatasync", "-e", f"inject=fdatasync:delay_enter={int(SLOW * 1e6)}"]
    tracer = subprocess.Popen([*words, *inject], stderr=subprocess.PIPE)
    try:
        assert tracer.stderr is not None
        assert b"attached" in tracer.stderr.readline()
        yield
    finally:
        tracer.terminate()
        tracer.communicate(timeout=30)


def export(node: Node) -> bytes:
    with urllib.request.urlopen(f"{node.url}/export?name=db", timeout=30) as response:
        return bytes(response.read())


def test_the_node_does_not_take_the_log_from_a_program_without_locks(node: Node) -> None:
    """A program that closes any descriptor of its database loses the locks of its connections: POSIX wants it so."""
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


def test_a_writer_that_waits_for_the_disk_is_not_taken_for_dead(node: Node) -> None:
    """Its transaction is in the log, and not in the wal-index until the sync is done."""
    with closing(sqlite3.connect(node.path("db"), isolation_level=None, timeout=0)) as connection:
        connection.execute("PRAGMA journal_mode = wal").fetchall()
        connection.execute("PRAGMA synchronous = full")
        connection.execute("CREATE TABLE t (x)")
        with slow_syncs(node):
            started = time.monotonic()
            for _ in range(2):
                connection.execute("INSERT INTO t VALUES (1)")
                assert not is_open_in_client(node)
            assert time.monotonic() - started > 2 * SLOW
