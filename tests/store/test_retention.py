"""Retention on a virtual clock: which LTX files go, and when."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from litefs.ltx import EMPTY, Pos
from litefs.store.database import Database
from litefs.store.pagetable import PageTable, Stamp
from litefs.store.publisher import State
from litefs.store.retention import Retention
from litefs.store.store import Store
from tests.support.virtualtime import run


@pytest.fixture
def db(tmp_path: Path) -> Database:
    """A database at TXID 10 whose files are an hour old, newest first by a minute each."""
    store = Store(tmp_path / "data", tmp_path / "mnt")
    db = Database(store, "app.db")
    (db.path / "ltx").mkdir(parents=True)
    now = time.time()
    for txid in range(1, 11):
        path = db.ltx_dir.file(txid, txid)
        path.write_bytes(b"x")
        os.utime(path, (now - 60 * (11 - txid),) * 2)
    db.ltx_dir.load()
    pos = Pos(10, EMPTY)
    db.recovered(State(pos, 4096, 0), PageTable(), Stamp(4096, 0, pos))
    store._databases["app.db"] = db
    return db


def left(db: Database) -> list[int]:
    assert {path.name for path in db.ltx_dir.path.iterdir()} == {db.ltx_dir.file(*r).name for r in db.ltx_dir.ranges()}
    return [low for low, _ in db.ltx_dir.ranges()]


def test_by_age(db: Database) -> None:
    async def main() -> None:
        assert await Retention(db.store, 330, 60, backup=False).enforce(db) == 5
        assert left(db) == [6, 7, 8, 9, 10]
        assert db.ltx_dir.reaped == 5

    run(main)


def test_never_the_newest(db: Database) -> None:
    async def main() -> None:
        await Retention(db.store, 1, 60, backup=False).enforce(db)
        assert left(db) == [10]
        assert await Retention(db.store, 1, 60, backup=False).enforce(db) == 0

    run(main)


def test_never_the_newest_that_survives_a_power_failure(db: Database) -> None:
    async def main() -> None:
        db.disk.durable = 8  # 9 and 10 can be made again from the WAL, from there on
        await Retention(db.store, 1, 60, backup=False).enforce(db)
        assert left(db) == [8, 9, 10]

    run(main)


def test_never_what_a_backup_does_not_hold(db: Database) -> None:
    async def main() -> None:
        retention = Retention(db.store, 1, 60, backup=True)
        assert await retention.enforce(db) == 0  # none of it is safe yet
        db.hwm = 4
        await retention.enforce(db)
        assert left(db)[0] == 4
        db.hwm = 99
        await retention.enforce(db)
        assert left(db) == [10]

    run(main)


def test_never_what_start_up_needs(db: Database) -> None:
    """What the saved table is not true for yet is saved first, or stays."""

    async def main() -> None:
        db.disk.forget_table()
        await Retention(db.store, 1, 60, backup=False).enforce(db)
        assert db.disk.saved == db.pos
        assert left(db) == [10]

    run(main)


def test_the_task(db: Database) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Retention(db.store, 330, 60, backup=False).run)
            await trio.sleep(59)
            assert len(left(db)) == 10
            with trio.fail_after(50):  # the next look would be at 120
                while db.ltx_dir.reaped < 5:  # a worker thread does it, whatever the clock says
                    await trio.sleep(1)
            assert len(left(db)) == 5
            nursery.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize(("retention", "interval"), [(0, 60), (330, 0)])
def test_off(db: Database, retention: float, interval: float) -> None:
    async def main() -> None:
        with trio.move_on_after(10_000):
            await Retention(db.store, retention, interval, backup=False).run()
        assert len(left(db)) == 10

    run(main)


def test_a_disk_that_fails_does_not_end_the_task(
    db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Retention, "_unlink", staticmethod(fail))
            with trio.move_on_after(61):
                await retention.run()
        with trio.move_on_after(61):
            await retention.run()
        assert len(left(db)) == 5

    def fail(*args: object) -> None:
        raise OSError(5, "broken")

    retention = Retention(db.store, 330, 60, backup=False)
    run(main)
    assert "cannot remove old LTX files" in caplog.text


def test_files_of_a_clock_that_was_ahead_do_not_stay_for_ever(db: Database) -> None:
    async def main() -> None:
        future = time.time() + 86400
        for txid in range(4, 9):
            os.utime(db.ltx_dir.file(txid, txid), (future, future))
        retention = Retention(db.store, 30, 60, backup=False)
        await retention.enforce(db)
        assert left(db) == [4, 5, 6, 7, 8, 9, 10]
        await retention.enforce(db)  # they are new now
        assert left(db) == [4, 5, 6, 7, 8, 9, 10]
        for txid in range(4, 9):
            found = db.ltx_dir.file(txid, txid).stat().st_mtime
            assert found <= time.time()
            os.utime(db.ltx_dir.file(txid, txid), (found - 31, found - 31))
        await retention.enforce(db)
        assert left(db) == [10]

    run(main)
