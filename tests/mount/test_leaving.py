"""Programs that have a part of a database open when the mount goes must not find the rest of it elsewhere."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.nodes import Node
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

Connection = sqlite3.Connection


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    found = Node(tmp_path / "a").start()
    with closing(sqlite3.connect(found.path("db"), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal").fetchall()
        connection.execute("CREATE TABLE t (x)")
    yield found
    found.destroy()


def insert(connection: Connection) -> None:
    connection.execute("INSERT INTO t VALUES (1)")


def half_open(node: Node) -> Connection:
    """A connection that has opened the database file and not yet its log; the kernel has all pages in memory."""
    connection = sqlite3.connect(node.path("db"), isolation_level=None)
    with closing(sqlite3.connect(node.path("db"), isolation_level=None)) as other:
        assert other.execute("SELECT count(*) FROM t").fetchone() == (0,)
        assert Path(node.path("db-wal")).exists()
    return connection


def rows(node: Node) -> int:
    with closing(sqlite3.connect(node.path("db"))) as connection:
        (count,) = connection.execute("SELECT count(*) FROM t").fetchone()
        return int(count)


def stop(node: Node) -> None:
    assert node.stop() == 0


def stop_and_start(node: Node) -> None:
    stop(node)
    node.start()


def kill_and_start(node: Node) -> None:
    node.kill()
    node.start()


@pytest.mark.parametrize("change", [stop, stop_and_start, kill_and_start])
def test_no_commit_goes_past_the_mount(node: Node, change: Callable[[Node], None]) -> None:
    with closing(half_open(node)) as connection:
        change(node)
        with pytest.raises(sqlite3.OperationalError):
            insert(connection)
    if not node.running:
        assert not [path.name for path in node.mount.iterdir()]
        node.start()
    assert rows(node) == 0
    with closing(sqlite3.connect(node.path("db"), isolation_level=None)) as again:
        insert(again)
    assert rows(node) == 1


def test_what_is_open_is_served_until_the_path_goes_and_nothing_is_opened(node: Node) -> None:
    path = node.path("db")
    fd = os.open(path, os.O_RDONLY)
    try:
        assert os.pread(fd, 16, 0)
        with ThreadPoolExecutor() as pool:
            stopped = pool.submit(node.stop)
            wait_for(lambda: not opens(path), "refused open")
            assert os.path.ismount(node.mount)
            assert os.pread(fd, 16, 0)
            assert stopped.result() == 0
        with pytest.raises(OSError, match=r"not connected|aborted"):
            os.pread(fd, 16, 0)
    finally:
        os.close(fd)
    assert not os.path.ismount(node.mount)
    assert not node.surprises()


def opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return False
    return True


@pytest.mark.alone
def test_without_open_files_it_goes_at_once(node: Node) -> None:
    started = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - started < 3
    assert "going on without it" not in node.log()


def test_a_dead_mount_is_not_read_from_memory(node: Node) -> None:
    fd = os.open(node.path("db"), os.O_RDONLY)
    try:
        assert os.pread(fd, 16, 0)
        node.kill()
        wait_for(lambda: not reads(fd), "failing read", 5)
    finally:
        os.close(fd)


def reads(fd: int) -> bool:
    try:
        return bool(os.pread(fd, 16, 0))
    except OSError:
        return False
