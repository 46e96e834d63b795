"""What reaches the WAL when the kernel splits writes, and when SQLite mends what it has overwritten."""

from __future__ import annotations

import errno
import itertools
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio
import trio.testing

from litefs.ltx import Pos
from litefs.mount.handles import WALHandle
from litefs.sqlite.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, frame_offset
from litefs.store import transaction
from litefs.store.database import Database
from litefs.store.publisher import State
from litefs.store.store import Store
from tests.support import chain
from tests.support.history import Scratch
from tests.support.nodes import Node
from tests.torture import workload

PAGE = 4096
Writes = list[tuple[int, bytes]]


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main)


@pytest.fixture
def wal(tmp_path: Path) -> bytes:
    """A WAL of one transaction of two frames."""
    scratch = Scratch(tmp_path / "scratch")
    scratch("CREATE TABLE t (x)")
    data = scratch.side("wal")
    assert len(data) == frame_offset(3, PAGE)
    return data


async def opened(tmp_path: Path) -> tuple[Database, WALHandle]:
    """A database that is only in its WAL so far, but for page 1, which says that there is one."""
    store = Store(tmp_path / "data", tmp_path / "mnt")
    store.set_writable(True)
    db = await store.database("app.db", create=True)
    db.file.write_bytes((tmp_path / "scratch" / "database").read_bytes())
    db.wal.create()
    return db, WALHandle(db, own=False)


def as_sqlite(wal: bytes) -> Writes:
    writes = [(0, wal[:WAL_HEADER_SIZE])]
    for number in (1, 2):
        at = frame_offset(number, PAGE)
        writes += [(at, wal[at : at + FRAME_HEADER_SIZE])]
        writes += [(at + FRAME_HEADER_SIZE, wal[at + FRAME_HEADER_SIZE : at + FRAME_HEADER_SIZE + PAGE])]
    return writes


def split(writes: Writes) -> Writes:
    """As the kernel passes them on when it does not have the pages in its cache: cut where a page ends."""
    found = []
    for offset, data in writes:
        cut = PAGE - offset % PAGE
        found += [(offset, data[:cut]), (offset + cut, data[cut:])]
    return [(offset, data) for offset, data in found if data]


@pytest.mark.parametrize("shape", [as_sqlite, lambda wal: split(as_sqlite(wal))])
def test_captured_with_the_last_byte(tmp_path: Path, wal: bytes, shape: Callable[[bytes], Writes]) -> None:
    async def main() -> None:
        db, handle = await opened(tmp_path)
        for offset, data in shape(wal):
            assert db.pos.txid == 0
            await handle.write(offset, data)
        assert db.pos.txid == 1

    run(main)


def test_a_refused_commit_stays_refused(tmp_path: Path, wal: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells SQLite of a short write, and SQLite writes the rest again."""

    async def main() -> None:
        db, handle = await opened(tmp_path)
        *before, (offset, last) = split(as_sqlite(wal))
        for at, data in before:
            await handle.write(at, data)
        with monkeypatch.context() as patch:
            patch.setattr(transaction, "write_small", full)
            with pytest.raises(OSError, match="No space left"):
                await handle.write(offset, last)
        for _ in range(2):
            with pytest.raises(OSError, match="the transaction was refused"):
                await handle.write(offset, last)
        assert db.pos.txid == 0
        for at, data in split(as_sqlite(wal))[1:]:  # the next transaction begins
            await handle.write(at, data)
        assert db.pos.txid == 1

    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run(main)


def test_a_commit_waits_for_what_is_arriving(tmp_path: Path, wal: bytes) -> None:
    """An import has given SQLite's lock back, but its position is not known yet: what comes next follows it."""

    async def main() -> None:
        db, handle = await opened(tmp_path)
        *before, (offset, last) = as_sqlite(wal)
        for at, data in before:
            await handle.write(at, data)
        async with trio.open_nursery() as nursery:
            with db.arriving.shut():
                nursery.start_soon(handle.write, offset, last)
                await trio.testing.wait_all_tasks_blocked()
                assert not len(db.ltx_dir)
                db.state = State(Pos(7, 1 << 63), PAGE, 0, 0, True)
        assert db.pos.txid == 8

    run(main)


def test_captured_when_the_chain_is_mended(tmp_path: Path, wal: bytes) -> None:
    """Headers without salts and checksums first, then once more, perhaps in pieces."""
    bare = bytearray(wal)
    headers = []
    for number in (1, 2):
        at = frame_offset(number, PAGE)
        bare[at + 8 : at + FRAME_HEADER_SIZE] = bytes(16)
        headers.append((at, wal[at : at + FRAME_HEADER_SIZE]))

    async def main() -> None:
        db, handle = await opened(tmp_path)
        for at, data in split(as_sqlite(bytes(bare))):
            await handle.write(at, data)
        (first, one), (second, two) = headers
        await handle.write(first, one)
        await handle.write(second, two[:10])
        assert db.pos.txid == 0
        await handle.write(second + 10, two[10:])
        assert db.pos.txid == 1
        assert not db.wal.holed

    run(main)


@pytest.mark.slow
def test_savepoint_rolled_back_to_before_the_first_overwritten_frame(make_node: Callable[..., Node]) -> None:
    """SQLite 3.40 leaves a WAL with a hole then: the transaction counts, and a crash of the node loses nothing."""
    node = make_node(settings={"data": {"retention": "24h"}}).start()
    with closing(sqlite3.connect(node.path("app.db"), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        connection.execute("PRAGMA cache_size = 5")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        connection.execute("CREATE INDEX t_x ON t (x)")
        for n in range(200):
            connection.execute("INSERT INTO t (x) VALUES (?)", (f"{n * 7919 % 1000:04}" * 100,))
        for _ in range(3):
            before = node.pos("app.db").txid
            connection.execute("BEGIN")
            connection.execute("SAVEPOINT s")
            connection.execute("UPDATE t SET x = x || 'a' WHERE id % 2 = 0")
            connection.execute("ROLLBACK TO s")
            connection.execute("UPDATE t SET x = x || 'b' WHERE id < 20")
            connection.execute("COMMIT")
            assert node.pos("app.db").txid == before + 1
        expected = connection.execute("SELECT id, x FROM t").fetchall()
        pos = node.pos("app.db")
        node.kill()
    node.start()
    assert node.pos("app.db") == pos
    with closing(sqlite3.connect(node.path("app.db"), isolation_level=None)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT id, x FROM t").fetchall() == expected
    assert node.stop() == 0
    chain.check(node.files("app.db"), pos)


HOLE = """
import os, signal, sqlite3, sys
path, end = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None, timeout=10)
connection.execute("PRAGMA synchronous = FULL")
connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
connection.execute("PRAGMA cache_size = 10")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE t SET x = x || 'b' WHERE id = 190")
connection.execute("SAVEPOINT s")
connection.execute("UPDATE t SET x = x || 'a' WHERE id % 2 = 0")
connection.execute("ROLLBACK TO s")
connection.execute("COMMIT")
os.kill(os.getpid(), signal.SIGKILL) if end == "kill" else connection.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "close"])
def test_whoever_reads_the_log_next_finds_no_hole(make_node: Callable[..., Node], end: str) -> None:
    """SQLite itself loses the transaction when the only connection to know of it is gone."""
    node = make_node(settings={"data": {"retention": "24h"}}).start()
    path = node.path("app.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal").fetchall()
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        connection.execute("CREATE INDEX t_x ON t (x)")
        for n in range(200):
            connection.execute("INSERT INTO t (x) VALUES (?)", (f"{n * 7919 % 1000:04}" * 100,))
    for n in range(1, 9):
        subprocess.run([sys.executable, "-c", HOLE, path, end], check=end == "close", timeout=60)
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
            assert connection.execute("SELECT length(x) FROM t WHERE id = 190").fetchall() == [(400 + n,)]
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    pos = node.pos("app.db")
    assert node.stop() == 0
    chain.check(node.files("app.db"), pos)


BARE = """
import os, signal, sqlite3, sys
from tests.torture import workload
path, end = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None, timeout=10)
connection.execute("PRAGMA page_size = 512")
connection.execute("PRAGMA journal_mode = wal").fetchall()
connection.execute("PRAGMA synchronous = NORMAL")
connection.execute("PRAGMA cache_size = 30")
workload.setup(connection)
for n in range(1, 8):
    connection.execute("BEGIN IMMEDIATE")
    workload.run(connection, "wal-512-0.0.db", n)
    connection.execute("COMMIT")
    with open(path + "-pos") as file:
        print(int(file.read(16), 16), flush=True)
print("done", flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL) if end == "kill" else connection.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "close", "crash"])
def test_commit_frame_that_is_not_mended(make_node: Callable[..., Node], end: str) -> None:
    """SQLite 3.40 leaves the fifth transaction's without salts and checksums, and goes on from those of another."""
    node = make_node(settings={"data": {"retention": "24h"}}).start()
    path = node.path("app.db")
    command = [sys.executable, "-c", BARE, path, end]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        positions = [int(line) for line in itertools.takewhile(lambda line: line != "done\n", writer.stdout)]
        if end == "crash":
            node.kill()
            writer.kill()
        writer.stdin.close()
        writer.wait(60)
    if end == "crash":
        node.start()
    assert positions == list(range(positions[0], positions[0] + 7))
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        assert workload.last(connection) == 7
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    pos = node.pos("app.db")
    assert pos.txid == positions[-1]
    assert node.stop() == 0
    chain.check(node.files("app.db"), pos)
