"""A full disk: commits fail with an error, nothing is lost or damaged, and with space again work goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support import chain
from tests.support.disks import SmallDisk, or_skip, small_disk
from tests.support.nodes import Node
from tests.support.waiting import wait_for

MakeNode = Callable[..., Node]
pytestmark = pytest.mark.slow
NAME = "app.db"
SMALL, LARGE = 2 << 20, 64 << 20
KEEP = {"retention": "24h"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with or_skip(small_disk(tmp_path / "disk", SMALL)) as disk:
        yield disk


def connect(node: Node, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(node.path(NAME), isolation_level=None, timeout=10)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)")
    return connection


def insert(connection: sqlite3.Connection, size: int = 20_000) -> None:
    connection.execute("INSERT INTO t (x) VALUES (randomblob(?))", (size,))


def fill(connection: sqlite3.Connection) -> int:
    """Insert rows until the disk is full; how many were committed."""
    for count in range(10_000):
        try:
            insert(connection)
        except sqlite3.OperationalError as error:
            if str(error) not in ("database or disk is full", "disk I/O error"):
                raise
            return count
    raise AssertionError("the disk is never full")


def rows(connection: sqlite3.Connection) -> int:
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    (count,) = connection.execute("SELECT count(*) FROM t").fetchone()
    return int(count)


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
def test_commits_fail_and_nothing_else_happens(make_node: MakeNode, disk: SmallDisk, mode: str) -> None:
    node = make_node(settings={"data": {"dir": str(disk.path / "data"), **KEEP}})
    node.data = disk.path / "data"
    node.start()
    with closing(connect(node, mode)) as connection:
        count = fill(connection)
        assert rows(connection) == count
        for size in (20_000, 100, 1, 300_000):  # some may fit, some not
            try:
                insert(connection, size)
            except sqlite3.OperationalError:
                pass
            else:
                count += 1
            assert rows(connection) == count
        disk.resize(LARGE)
        for _ in range(3):
            insert(connection)
            count += 1
        assert rows(connection) == count
    chain.check(node.files(NAME), node.pos(NAME))
    pos = node.pos(NAME)
    assert node.stop() == 0
    chain.check(node.files(NAME), pos)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_start_on_a_full_disk(make_node: MakeNode, disk: SmallDisk, mode: str) -> None:
    """The node comes up; a database that cannot be recovered for lack of space can be, once there is space."""
    node = make_node(settings={"data": {"dir": str(disk.path / "data"), **KEEP}})
    node.expected.append("No space left on device")
    node.data = disk.path / "data"
    node.start()
    with closing(connect(node, mode)) as connection:
        count = fill(connection)
        pos = node.pos(NAME)
        node.kill()
    left = disk.path / "left"
    with open(left, "wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 512):  # to the last byte
            pass
    node.start()
    try:
        with closing(sqlite3.connect(node.path(NAME))) as connection:
            rows(connection)
    except sqlite3.OperationalError:
        assert "No space left on device" in node.log()
    disk.resize(LARGE)
    with closing(connect(node, mode)) as connection:
        assert rows(connection) == count
        assert node.pos(NAME) == pos
        insert(connection)
    chain.check(node.files(NAME), node.pos(NAME))
    assert node.stop() == 0


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_replica_with_a_full_disk(make_node: MakeNode, disk: SmallDisk, mode: str) -> None:
    primary = make_node("primary", settings={"data": KEEP}).start()
    replica = make_node("replica", primary=primary, settings={"data": {"dir": str(disk.path / "data"), **KEEP}})
    replica.data = disk.path / "data"
    replica.expected.append("No space left on device")
    replica.start()
    with closing(connect(primary, mode)) as connection:
        for _ in range(200):
            insert(connection)
        wait_for(lambda: "No space left" in replica.log(), "full disk of the replica")
        assert replica.running
        with closing(sqlite3.connect(replica.path(NAME))) as reader:
            rows(reader)
        disk.resize(LARGE)
        insert(connection)
    replica.wait_pos(NAME, primary.pos(NAME))
    image = chain.check(primary.files(NAME), primary.pos(NAME)).image
    with closing(sqlite3.connect(replica.path(NAME))) as reader:
        assert rows(reader) == 201
    assert chain.files_image(replica.files(NAME)) == image
    assert replica.stop() == 0
    assert primary.stop() == 0


def test_a_node_cannot_begin_on_a_full_disk(make_node: MakeNode, disk: SmallDisk) -> None:
    """And says whose disk it is, and what to do."""
    with suppress(OSError), open(disk.path / "filler", "wb") as file:
        while True:
            file.write(bytes(1 << 20))
    data = disk.path / "data"
    node = make_node(settings={"data": {"dir": str(data)}})
    node.spawn()
    assert node.process is not None
    assert node.process.wait(30) == 1
    assert f"cannot use data directory {data}: No space left on device" in node.log()
    assert "make room" in node.log()
