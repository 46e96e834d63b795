"""The right to commit: a transaction that is captured while the lease runs out, or that waits at the gate."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from litefs.mount.handles import DatabaseHandle, JournalHandle, WALHandle
from litefs.sqlite.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, frame_offset
from litefs.store import store as store_module
from litefs.store import transaction
from litefs.store.database import Database
from litefs.store.store import Store

PAGE = 4096


class Clock:
    """The clock of leases; each LTX file takes `cost` seconds to write."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.cost = 100.0, 0.0
        patch.setattr(store_module, "clock", lambda: self.now)
        for name in ("write_small", "write_large"):
            patch.setattr(transaction, name, self._slow(getattr(transaction, name)))

    def _slow(self, write: Callable[..., int]) -> Callable[..., int]:
        def slow(*args: Any) -> int:
            size = write(*args)
            self.now += self.cost
            return size

        return slow


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def image(tmp_path: Path, *statements: str, journal: str = "delete") -> tuple[bytes, bytes]:
    """A database file and its WAL, as SQLite leaves them."""
    path = tmp_path / "scratch"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}").fetchall()
        for statement in statements:
            connection.execute(statement)
        wal = path.with_name("scratch-wal")
        return path.read_bytes(), wal.read_bytes() if wal.exists() else b""


async def database(tmp_path: Path, content: bytes, until: float) -> Database:
    store = Store(tmp_path / "data", tmp_path / "mnt")
    store.set_writable(True, until=until)
    db = await store.database("app.db", create=True)
    db.file.write_bytes(content)
    return db


def test_wal_commit_during_which_the_lease_runs_out(tmp_path: Path, clock: Clock) -> None:
    content, wal = image(tmp_path, "CREATE TABLE t (x)", journal="wal")

    async def main() -> None:
        db = await database(tmp_path, content, until=110)
        db.wal.create()
        handle = WALHandle(db, own=False)
        clock.cost = 11
        at = frame_offset(2, PAGE)
        await handle.write(0, wal[:at])
        with pytest.raises(OSError, match="not the primary") as caught:
            await handle.write(at, wal[at:])
        assert caught.value.errno == errno.EROFS
        assert db.pos.txid == 0
        assert db.counters.commits == 0
        assert os.listdir(db.ltx_dir.path) == []
        assert not len(db.publisher)
        assert not any(os.pread(db.wal.fd, FRAME_HEADER_SIZE, at)), "the commit frame is still one"
        db.store.set_writable(True, until=1000)
        clock.cost = 0
        await handle.write(WAL_HEADER_SIZE, wal[WAL_HEADER_SIZE:])  # the next transaction
        assert db.pos.txid == 1

    trio.run(main)


@pytest.mark.parametrize("rows", [1, 600], ids=["small", "large"])
@pytest.mark.parametrize("prepared", [False, True], ids=["at once", "prepared"])
def test_rollback_commit_during_which_the_lease_runs_out(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, rows: int, prepared: bool
) -> None:
    """Prepared files have been written when the journal ends: the last look is the only one then."""
    content, _ = image(tmp_path, "CREATE TABLE t (x)", *[f"INSERT INTO t VALUES (zeroblob({PAGE}))"] * rows)

    async def main() -> None:
        db = await database(tmp_path, b"", until=110)
        db.journal.path.touch()
        journal, handle = JournalHandle(db, own=False), DatabaseHandle(db, own=False)
        await journal.write(0, _journal_header())
        await handle.write(0, content)
        if prepared:
            await handle.fsync()
            clock.now = 109
            _expire_with_the_rename(clock, monkeypatch)
        else:
            clock.cost = 11
        with pytest.raises(OSError, match="not the primary"):
            await db.journal.finalise()
        assert clock.now > 110
        assert db.pos.txid == 0
        assert [name for name in os.listdir(db.ltx_dir.path) if name.endswith(".ltx")] == []
        assert not len(db.publisher)
        assert all(db.table.get(pgno) == 0 for pgno in range(1, 10))
        db.store.set_writable(True, until=1e9)
        await db.journal.finalise()
        assert db.pos.txid == 1

    trio.run(main)


def _journal_header() -> bytes:
    magic = bytes.fromhex("d9d505f920a163d7")
    fields = (0, 1, 0, 512, PAGE)  # records, nonce, size of the database before, sector, page
    return (magic + b"".join(n.to_bytes(4, "big") for n in fields)).ljust(512, b"\0")


def _expire_with_the_rename(clock: Clock, patch: pytest.MonkeyPatch) -> None:
    """The lease ends as soon as the prepared file has its name."""
    rename = os.rename

    def renamed(source: Any, target: Any) -> None:
        rename(source, target)
        clock.now = 120

    patch.setattr(os, "rename", renamed)


def test_sync_after_the_lease_ran_out(tmp_path: Path, clock: Clock) -> None:
    """With synchronous=FULL a commit is answered by its sync: SQLite discards it when that fails."""
    content, wal = image(tmp_path, "CREATE TABLE t (x)", journal="wal")

    async def main() -> None:
        db = await database(tmp_path, content, until=110)
        db.wal.create()
        db.shm_users = 1
        handle, other = WALHandle(db, own=False), WALHandle(db, own=False)
        await handle.write(0, wal)
        assert db.publisher.in_doubt is not None
        clock.now = 111
        await other.fsync()
        with pytest.raises(OSError, match="not the primary"):
            await handle.fsync()
        db.publisher.accept()
        await handle.fsync()  # the commit is over: a checkpoint perhaps

    trio.run(main)


@pytest.mark.parametrize("moved", [False, True], ids=["reopened", "lease moved"])
def test_commits_wait_at_the_gate(tmp_path: Path, moved: bool) -> None:
    content, wal = image(tmp_path, "CREATE TABLE t (x)", journal="wal")

    async def main() -> None:
        db = await database(tmp_path, content, until=1e12)
        db.wal.create()
        handle = WALHandle(db, own=False)
        outcome: list[object] = []

        async def commit() -> None:
            try:
                outcome.append(await handle.write(0, wal))
            except OSError as error:
                outcome.append(error.errno)

        async with trio.open_nursery() as nursery:
            with db.store.gate.shut():
                nursery.start_soon(commit)
                await trio.testing.wait_all_tasks_blocked()
                assert (outcome, db.pos.txid) == ([], 0)
                if moved:
                    db.store.set_writable(False)
        assert outcome == ([errno.EROFS] if moved else [len(wal)])
        assert db.pos.txid == (0 if moved else 1)

    trio.run(main)
