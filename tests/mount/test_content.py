"""Content that takes the place of an empty database file: whole or not at all, and seen by those who have that open."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from litefs.ltx import page_checksum
from litefs.store.content import Content
from tests.support import chain
from tests.support.nodes import Node
from tests.support.waiting import wait_for

MakeNode = Callable[..., Node]

ROWS = 20_000  # of 1 KB: far above what is kept in memory


@pytest.fixture(scope="module", params=["delete", "wal"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of 20 MB."""
    path = tmp_path_factory.mktemp("source") / "db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {request.param}")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)")
        connection.executemany("INSERT INTO t(data) VALUES (randomblob(?))", [(1000,)] * ROWS)
        connection.commit()
    return path


def upload(node: Node, source: Path) -> None:
    with urllib.request.urlopen(f"{node.url}/import?name=db", data=source.read_bytes(), timeout=60) as response:
        assert response.status == 200


def count(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("SELECT count(*) FROM t WHERE length(data) = 1000").fetchone()[0]
    return found


def inode(node: Node) -> int:
    return (node.files("db") / "database").stat().st_ino


def check(node: Node) -> None:
    with closing(sqlite3.connect(node.path("db"))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert count(connection) == ROWS
    chain.check(node.files("db"), node.pos("db"))
    assert not list(node.files("db").glob("database-*.tmp")) + list((node.files("db") / "ltx").glob("*.tmp"))


def test_import_and_arrival_with_the_empty_file_open(make_node: MakeNode, source: Path) -> None:
    primary = make_node("primary").start()
    replica = make_node("replica", primary=primary).start()
    with (
        closing(sqlite3.connect(primary.path("db"))) as here,
        closing(sqlite3.connect(replica.path("db"))) as there,
    ):
        for connection in (here, there):
            assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []
        empty = inode(primary), inode(replica)
        upload(primary, source)
        assert count(here) == ROWS
        replica.wait_pos("db", primary.pos("db"))
        assert count(there) == ROWS
        before = inode(primary), inode(replica)
        assert before[0] != empty[0]  # another file took its place
        assert before[1] != empty[1]
        here.execute("DELETE FROM t WHERE id = 1")
        here.execute("INSERT INTO t VALUES (1, randomblob(1000))")
        here.commit()
        replica.wait_pos("db", primary.pos("db"))
        assert count(there) == ROWS
        assert (inode(primary), inode(replica)) == before
    for node in (primary, replica):
        check(node)
    assert replica.stop() == 0
    assert primary.stop() == 0
    assert (replica.files("db") / "database").read_bytes() == (primary.files("db") / "database").read_bytes()


def test_again_after_the_database_was_deleted(node: Node, source: Path) -> None:
    upload(node, source)
    pos = node.pos("db")
    with closing(sqlite3.connect(node.path("db"))) as old:
        assert count(old) == ROWS
        (node.mount / "db").unlink()
        upload(node, source)
        assert node.pos("db").txid == pos.txid + 2
    check(node)


def test_onto_a_database_that_is_there(node: Node, source: Path) -> None:
    with closing(sqlite3.connect(node.path("db"))) as connection:
        connection.executescript("CREATE TABLE old(v); INSERT INTO old VALUES(1)")
        before = inode(node)
        upload(node, source)
        assert inode(node) == before
        assert count(connection) == ROWS
    check(node)


def test_kill_while_it_is_imported(node: Node, source: Path) -> None:
    """All of it, or nothing."""

    def send() -> None:
        with suppress(OSError, urllib.error.URLError):
            upload(node, source)

    for _ in range(4):
        sender = threading.Thread(target=send)
        sender.start()
        time.sleep(random.uniform(0, 0.25))  # whatever it is doing by then
        node.kill()
        sender.join()
        node.start()
        if (node.mount / "db").exists():
            check(node)
            (node.mount / "db").unlink()


def test_kill_while_it_arrives(make_node: MakeNode, source: Path) -> None:
    """All of it, or nothing; and then all of it."""
    primary = make_node("primary").start()
    upload(primary, source)
    for number in range(4):
        replica = make_node(f"replica{number}", primary=primary).spawn()
        directory = replica.files("db")
        moment = random.choice(["ltx/*.tmp", "database-*.tmp", "ltx/*.ltx", "database"])
        wait_for(lambda: any(directory.glob(moment)), moment)  # noqa: B023 - it is called here
        time.sleep(random.uniform(0, 0.05))
        replica.kill()
        replica.start()
        replica.wait_pos("db", primary.pos("db"))
        check(replica)
        assert replica.stop() == 0


def test_checksums_and_pages_around_the_lock_page(tmp_path: Path) -> None:
    content = Content(tmp_path / "file")
    pages = [(pgno, bytes([pgno]) * 512) for pgno in (1, 2, 3, 5, 6)]
    content.add(pages[:2], [page_checksum(*page) for page in pages[:2]])
    content.add(pages[2:], [page_checksum(*page) for page in pages[2:]])
    assert list(content.table) == [(pgno, page_checksum(pgno, data)) for pgno, data in pages]
    content.take_place(tmp_path / "database", 7 * 512, [])
    whole = (tmp_path / "database").read_bytes()
    assert whole == b"".join(bytes([n if n in dict(pages) else 0]) * 512 for n in range(1, 8))
    content.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["database"]
