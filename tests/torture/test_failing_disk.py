"""A disk that fails to store what was written, for a moment: see `FailingDisk`.

Linux tells of it once, in one sync. A node that tried again would find everything in order, and acknowledge commits
that come after the hole.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from litefs.store.syncing import SyncFailed, forget_cached, sync_files
from tests.support import chain
from tests.support.disks import FailingDisk, failing_disk, or_skip
from tests.support.nodes import Node
from tests.support.waiting import wait_for

MakeNode = Callable[..., Node]
pytestmark = pytest.mark.slow
NAME = "app.db"
SIZE = 64 << 20  # bytes
TRIES = 20
FAILED = "the disk has failed to store what was written"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    with or_skip(failing_disk(tmp_path / "disk", SIZE)) as disk:
        yield disk


def connect(node: Node, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(node.path(NAME), isolation_level=None, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, data BLOB)")
    return connection


def insert(connection: sqlite3.Connection, size: int) -> int | None:
    """The row that a commit was acknowledged for; None when it failed."""
    try:
        return connection.execute("INSERT INTO t (data) VALUES (randomblob(?))", (size,)).lastrowid
    except sqlite3.OperationalError:
        return None


def rows(node: Node) -> set[int]:
    with closing(sqlite3.connect(node.path(NAME))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {n for (n,) in connection.execute("SELECT n FROM t")}


def failed(node: Node) -> tuple[bool, float]:
    """Whether the disk has failed to store the database, as `/status` and `/metrics` say."""
    with urllib.request.urlopen(f"{node.url}/status", timeout=30) as answer:
        said = json.load(answer)["databases"][NAME]["failed"]
    with urllib.request.urlopen(f"{node.url}/metrics", timeout=30) as answer:
        line = re.search(rf'^litefs_db_failed{{db="{NAME}"}} (\S+)$', answer.read().decode(), re.MULTILINE)
    assert line is not None
    return said, float(line[1])


def cut_power(node: Node, disk: FailingDisk) -> None:
    disk.fail()
    node.kill()
    disk.come_back()
    node.start()


@pytest.mark.parametrize("how", ["power failure", "kill"])
def test_what_comes_after_a_failed_sync_is_not_acknowledged(make_node: MakeNode, disk: FailingDisk, how: str) -> None:
    node = make_node(settings={"data": {"dir": str(disk.path / "data"), "retention": "24h"}})
    node.data = disk.path / "data"
    node.expected += [FAILED]
    node.start()
    with closing(connect(node, "NORMAL")) as careless, closing(connect(node, "FULL")) as careful:
        acknowledged = {insert(careful, 3000) for _ in range(5)}
        assert None not in acknowledged
        assert failed(node) == (False, 0)
        with disk.failing():
            insert(careless, 500_000)
            wait_for(lambda: FAILED in node.log(), "failed sync")
        assert failed(node) == (True, 1)
        acknowledged |= {insert(careful, 3000) for _ in range(TRIES)}
        if how == "kill":
            node.kill()
    if how == "kill":
        node.start()
        assert acknowledged - {None} <= rows(node)
        with closing(connect(node, "FULL")) as connection:
            acknowledged.add(insert(connection, 3000))
    cut_power(node, disk)
    assert acknowledged - {None} <= rows(node)
    with closing(connect(node, "FULL")) as connection:
        assert insert(connection, 3000)
        assert failed(node) == (False, 0)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    chain.check(node.files(NAME), node.pos(NAME))
    assert node.stop() == 0


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist"])
def test_a_journal_that_could_not_be_stored(make_node: MakeNode, disk: FailingDisk, mode: str) -> None:
    """What is written to the same blocks later reads well, syncs well, and is not there after the power failed."""
    node = make_node(settings={"data": {"dir": str(disk.path / "data"), "retention": "24h"}})
    node.data = disk.path / "data"
    node.expected += [FAILED]
    node.start()
    with closing(sqlite3.connect(node.path(NAME), isolation_level=None, timeout=1)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA cache_size = 20")  # pages; the rest of a transaction is written before its commit
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, data BLOB)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (?, randomblob(3000))", [(n,) for n in range(1, 201)])
        connection.execute("COMMIT")
        subprocess.run(["sync", "-f", disk.path], check=True)  # only the journal will be new
        with disk.failing(), pytest.raises(sqlite3.OperationalError):
            connection.execute("UPDATE t SET data = randomblob(3000)")
        assert FAILED in node.log()
        connection.execute("BEGIN")
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("UPDATE t SET n = n + 1000 WHERE n > 100")
        subprocess.run(["sync", "-f", disk.path], capture_output=True)  # what that has changed, if it has
        cut_power(node, disk)
    assert rows(node) == set(range(1, 201))
    chain.check(node.files(NAME), node.pos(NAME))
    assert node.stop() == 0


@pytest.mark.parametrize("count", [3, 40])
def test_a_failure_that_another_program_was_told_of(disk: FailingDisk, count: int) -> None:
    """Many files are synced by one call for the whole file system, which tells nobody twice."""
    folder = disk.path / "ltx"
    folder.mkdir()
    paths = [folder / str(number) for number in range(count)]
    with disk.failing():
        for path in paths:
            path.write_bytes(bytes([7]) * 5000)
        subprocess.run(["sync", "-f", folder], capture_output=True)
    with pytest.raises(SyncFailed):
        sync_files(folder, paths)
    for path in paths:
        forget_cached(path)
    assert paths[-1].read_bytes() != bytes([7]) * 5000
