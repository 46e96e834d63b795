"""Frames of the WAL that SQLite does not stand by: written by a process that dies, or lost in a crash."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

import pytest

from litefs.sqlite.wal import WAL_HEADER_SIZE, FrameWriter, WalHeader, frame_offset, scan
from tests.support.nodes import Node

from .application import check, die_after, fill, rows

Opened = Callable[..., sqlite3.Connection]
pytestmark = pytest.mark.slow
PAGE = 4096


class Log:
    """The WAL of a database, written by hand through the mount."""

    def __init__(self, node: Node) -> None:
        self.fd = os.open(node.path("db-wal"), os.O_RDWR)
        self.header = WalHeader.parse(os.pread(self.fd, WAL_HEADER_SIZE, 0))
        self.frames = list(scan(self.fd, self.header))

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def append(self, node: Node, pgno: int) -> None:
        """A transaction that adds a byte to the end of a page, as SQLite would write it; no wal-index is touched."""
        last = self.frames[-1]
        writer = FrameWriter(self.header, last.number + 1, last.checksum)
        with open(node.path("db"), "rb") as file:
            page = os.pread(file.fileno(), PAGE, (pgno - 1) * PAGE)
        offset = writer.offset
        data = writer.encode([(pgno, page[:-1] + b"!")], commit=last.commit)
        os.pwrite(self.fd, data[:24], offset)
        os.pwrite(self.fd, data[24:], offset + 24)

    def spoil(self, number: int, data: bytes = b"spoilt") -> None:
        """What a torn sector does to a frame."""
        os.pwrite(self.fd, data, frame_offset(number, PAGE) + 24)


@pytest.fixture
def database(node: Node, opened: Opened) -> sqlite3.Connection:
    database = opened(node.path("db"), journal="wal", wal_autocheckpoint=0)
    fill(database, 3)
    database.execute("PRAGMA wal_checkpoint").fetchall()
    fill(database, 3)
    return database


def test_a_commit_frame_that_never_reached_the_index(node: Node, database: sqlite3.Connection) -> None:
    """Its process was killed in between: the next writer takes the same place, and SQLite never knew of it."""
    before, pos = rows(database), check(node)
    with Log(node) as log:
        log.append(node, 2)
    assert rows(database) == before
    fill(database, 1)
    assert check(node).txid == pos.txid + 1
    assert rows(database)[:-1] == before


def test_a_commit_frame_that_recovery_finds(node: Node, opened: Opened) -> None:
    """The same with nobody left: who comes next rebuilds the index from the WAL, with the transaction."""
    die_after(
        node.path("db"), "PRAGMA journal_mode=wal", "CREATE TABLE t (id INTEGER PRIMARY KEY, data)",
        "PRAGMA wal_checkpoint", "INSERT INTO t VALUES (1, 'x')",
    )  # fmt: skip
    pos = check(node)
    with Log(node) as log:
        log.append(node, 2)
    fill(opened(node.path("db")), 1)
    assert check(node).txid > pos.txid


def kill_writer(node: Node) -> None:
    """Three transactions in the WAL, no process."""
    die_after(
        node.path("db"), "PRAGMA journal_mode=wal", "CREATE TABLE t (id INTEGER PRIMARY KEY, data)",
        "PRAGMA wal_checkpoint", "INSERT INTO t VALUES (1, randomblob(9000))", "INSERT INTO t VALUES (2, 'b')",
        "INSERT INTO t VALUES (3, randomblob(9000))",
    )  # fmt: skip


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_committed_frames_are_spoilt(node: Node, opened: Opened, lost: int) -> None:
    kill_writer(node)
    pos = check(node)
    with Log(node) as log:
        ends = [frame.number for frame in log.frames if frame.commit][-3:]
        log.spoil(ends[lost - 1])
    assert check(node) != pos
    pos = node.pos("db")
    assert lost == 3 or "SQLite discarded committed frames" in node.log()  # the last one may still be in doubt
    database = opened(node.path("db"))
    assert len(rows(database)) == lost - 1
    check(node)
    fill(database, 5)
    assert len(rows(database)) == lost + 4
    assert check(node).txid == pos.txid + 1
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    check(node)


def test_spoilt_frames_may_come_back(node: Node, opened: Opened) -> None:
    """The disk is asked again, or the copy is done again."""
    kill_writer(node)
    with Log(node) as log:
        end = log.frames[-1].number
        good = os.pread(log.fd, 6, frame_offset(end, PAGE) + 24)
        log.spoil(end)
        check(node)
        log.spoil(end, good)
    check(node)
    assert len(rows(opened(node.path("db")))) == 3
    check(node)


@pytest.mark.parametrize("how", ["spoilt", "emptied", "deleted"])
def test_the_whole_wal_is_lost(node: Node, opened: Opened, how: str) -> None:
    kill_writer(node)
    pos = check(node)
    match how:
        case "spoilt":
            with Log(node) as log:
                os.pwrite(log.fd, b"spoilt", 10)
        case "emptied":
            os.truncate(node.path("db-wal"), 0)
        case "deleted":
            os.unlink(node.path("db-wal"))
    assert check(node) != pos
    assert "the WAL went before it was checkpointed" in node.log()
    database = opened(node.path("db"))
    assert rows(database) == []
    fill(database, 5)
    check(node)


def test_frames_that_arrive_in_any_order(node: Node, opened: Opened) -> None:
    """A disk that loses power writes what it had in any order; a commit counts when all before it is there."""
    kill_writer(node)
    with Log(node) as log:
        last = log.frames[-1]
        writer = FrameWriter(log.header, last.number + 1, last.checksum)
        offset = writer.offset
        with open(node.path("db"), "rb") as file:
            page = os.pread(file.fileno(), PAGE, PAGE)
        data = writer.encode([(2, page), (2, page[:-1] + b"!")], commit=last.commit)
        pos = check(node)
        half = len(data) // 2
        os.pwrite(log.fd, data[half:], offset + half)
        assert check(node) == pos
        os.pwrite(log.fd, data[:half], offset)
        assert check(node).txid == pos.txid + 1
    fill(opened(node.path("db")), 1)
    assert check(node).txid == pos.txid + 2


def test_in_normal_work_nothing_is_lost(node: Node, opened: Opened) -> None:
    """Restarts, truncation and deletion of the WAL, with readers in the way."""
    database = opened(node.path("db"), journal="wal", wal_autocheckpoint=5)
    reader = opened(node.path("db"))
    fill(database, 10)
    for i in range(30):
        if i % 7 == 0:
            reader.execute("BEGIN")
            rows(reader)
        database.execute("UPDATE t SET data = randomblob(2000) WHERE id % 3 = ?", (i % 3,))
        if i % 7 == 4:
            reader.execute("COMMIT")
        if i % 10 == 9:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert check(node).txid == 32
    database.execute("DELETE FROM t WHERE id > 3")
    database.execute("VACUUM")
    reader.close()
    database.close()
    assert not os.path.exists(node.path("db-wal"))
    assert check(node).txid == 34
    assert "went before" not in node.log()
    assert "discarded" not in node.log()
