"""What a start costs: it grows neither with the size of a database nor with the number of databases."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio

from litefs.ltx import Pos
from litefs.store.store import Store
from tests.support.history import History, Scratch, fill
from tests.support.nodes import Node

MakeNode = Callable[..., Node]
pytestmark = pytest.mark.slow
NAME = "big.db"
SIZE = 200 << 20  # bytes
DATABASES = 2000


def bytes_read(node: Node) -> int:
    """Bytes that the node has read since it started, from the disk or not; its own code is part of that."""
    assert node.process is not None
    lines = Path(f"/proc/{node.process.pid}/io").read_text().splitlines()
    return int(lines[0].removeprefix("rchar: "))


def start_and_look(node: Node) -> int:
    """Start, have the database recovered; how much all that has read, the program itself included."""
    node.start()
    assert node.pos(NAME) > Pos(0, 0)
    return bytes_read(node)


def make_big(path: Path, mode: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        connection.execute(
            "INSERT INTO t SELECT value, zeroblob(1000000) FROM (WITH RECURSIVE n(value) AS "
            f"(SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {SIZE // 1_000_000}) SELECT value FROM n)"
        )


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_large_database_is_not_read(make_node: MakeNode, mode: str) -> None:
    node = make_node()
    node.files(NAME).mkdir(parents=True)
    make_big(node.files(NAME) / "database", mode)
    assert start_and_look(node) > SIZE  # the first time, there is nothing to compare with
    assert node.stop() == 0
    assert start_and_look(node) < SIZE // 2

    with closing(sqlite3.connect(node.path(NAME), isolation_level=None)) as connection:
        for n in range(20):
            connection.execute("INSERT INTO t (x) VALUES (?)", (n,))
        pos = node.pos(NAME)
        node.kill()
    assert start_and_look(node) < SIZE // 2
    assert node.pos(NAME) == pos
    assert node.stop() == 0


@pytest.mark.alone
def test_many_databases_are_left_alone(make_node: MakeNode, tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", "delete")
    fill(scratch, rows=5)
    node = make_node()
    started = time.monotonic()
    node.start()
    alone = time.monotonic() - started
    assert node.stop() == 0

    model = History(tmp_path / "model")
    model.commit(scratch.image)
    model.place(scratch.image)
    for n in range(DATABASES):
        shutil.copytree(model.directory, node.files(f"{n}.db"))
    started = time.monotonic()
    node.start()
    taken = time.monotonic() - started
    assert taken < alone + 1.0
    assert len([name for name in os.listdir(node.mount) if name.endswith(".db")]) == DATABASES
    assert node.pos("77.db") == model.pos
    assert node.stop() == 0


def test_a_database_that_cannot_be_used_holds_up_nobody(make_node: MakeNode) -> None:
    primary = make_node("primary")
    for node_files in (primary.files("file.db") / "ltx", primary.files("directory.db") / "database" / "x"):
        node_files.parent.mkdir(parents=True)
        node_files.touch()
    (primary.data / "dbs" / "stray").touch()
    primary.expected += ["cannot be used", "ignoring"]
    primary.start()
    replica = make_node("replica", primary=primary).start()
    with closing(sqlite3.connect(primary.path("good.db"), isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
    replica.wait_pos("good.db", primary.pos("good.db"))
    assert "file.db: cannot be used" in primary.log()
    assert "directory.db: cannot be used" in primary.log()
    assert os.listdir(primary.mount)
    assert replica.stop() == 0
    assert primary.stop() == 0


def test_super_journals_of_earlier_runs_go_whatever_the_clock_says(tmp_path: Path) -> None:
    Store(tmp_path / "data", tmp_path / "mnt")
    left = tmp_path / "data" / "super" / "app.db-mj123456789"
    left.write_bytes(b"")
    os.utime(left, (time.time() + 86400,) * 2)
    store = Store(tmp_path / "data", tmp_path / "mnt")
    new = left.with_name("app.db-mj987654321")
    new.write_bytes(b"")

    async def main() -> None:
        await store._finish_super_journals()

    trio.run(main)
    assert not left.exists()
    assert new.exists()
