"""The backup service of a primary, on a virtual clock, with a store and a backup in memory."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from litefs.backup import BackupError, BackupService, DatabaseRefused
from litefs.ltx import EMPTY, Pos
from litefs.testing import MemoryBackup
from tests.replication.fakes import FakeDatabase, FakeStore
from tests.support import virtualtime


class FakeRole:
    def __init__(self) -> None:
        self.is_primary = True
        self.announced: dict[str, Any] = {}
        self._changed = trio.Event()

    async def wait_change(self) -> None:
        await self._changed.wait()

    def set(self, *, is_primary: bool) -> None:
        self.is_primary = is_primary
        self._changed.set()
        self._changed = trio.Event()


class Backup(MemoryBackup):
    """Counts, blocks and refuses as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[float] = []
        self.writes: list[tuple[str, float]] = []
        self.refused: set[str] = set()
        self.takes = 0.0
        self.gate = trio.Event()
        self.gate.set()
        self.begun = trio.Event()
        self.moved = trio.Event()

    async def positions(self) -> dict[str, Pos]:
        self.looks.append(trio.current_time())
        return await super().positions()

    async def write(self, name: str, ltx: AsyncIterator[bytes]) -> int:
        self.begun.set()
        await self.gate.wait()
        await trio.sleep(self.takes)
        if name in self.refused:
            raise DatabaseRefused("this one not")
        mark = await super().write(name, ltx)
        self.writes.append((name, trio.current_time()))
        self.moved.set()
        self.moved = trio.Event()
        return mark

    async def until(self, name: str, pos: Pos) -> None:
        """Wait until it holds a position."""
        while self._position(name) != pos:
            await self.moved.wait()


class Node:
    """A store, a role, and the service between them and the backup."""

    def __init__(self, folder: Path, *, on_mismatch: str = "restore") -> None:
        self.store = FakeStore(folder, writable=True)
        self.role = FakeRole()
        self.backup = Backup()
        self.service = BackupService(lambda store: self.backup, on_mismatch=on_mismatch)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: self.service.run(cast(Any, self), task_status=task_status))
            yield
            nursery.cancel_scope.cancel()

    def database(self, name: str = "app.db") -> FakeDatabase:
        return self.store.databases.get(name) or self.store.add(name)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def run(main: Callable[[], Awaitable[None]]) -> None:
    virtualtime.run(main, threshold=0.01)


def test_transactions_within_a_second_are_one_upload(node: Node) -> None:
    async def main() -> None:
        db = node.database()
        await node.backup.until("app.db", Pos(0, 0))
        async with node.running():
            await node.backup.until("app.db", db.write({1: b"one"}))
            for number in range(5):
                pos = db.write({1: b"%d" % number})
            await node.backup.until("app.db", pos)
            assert len(node.backup.writes) == 2
            assert db.hwm == pos.txid

    run(main)


def test_commits_during_an_upload_wait_for_the_next_one(node: Node) -> None:
    async def main() -> None:
        db = node.database()
        async with node.running():
            await node.backup.until("app.db", db.write({1: b"one"}))
            node.backup.writes.clear()
            node.backup.takes = 0.2
            begin = trio.current_time()
            while trio.current_time() < begin + 10:
                pos = db.write({1: b"x"})
                await trio.sleep(0.05)
            await node.backup.until("app.db", pos)
        assert 5 <= len(node.backup.writes) <= 12, node.backup.writes

    run(main)


def test_a_long_way_is_made_in_pieces_of_256(node: Node) -> None:
    async def main() -> None:
        db, other = node.database(), node.database("other.db")
        first = db.write({1: b"one"})
        async with node.running():
            await node.backup.until("app.db", first)
        for number in range(600):
            pos = db.write({1: b"%d" % number})
        last = other.write({1: b"one"})
        node.backup.writes.clear()
        async with node.running():
            await node.backup.until("app.db", pos)
            await node.backup.until("other.db", last)
        # They took turns: the long way of one did not hold up the other.
        assert [name for name, _ in node.backup.writes] == ["app.db", "other.db", "app.db", "app.db"]

    run(main)


def test_an_outage_is_retried_with_growing_delays(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        db = node.database()
        pos = db.write({1: b"one"})
        node.backup.available = False
        async with node.running():
            await trio.sleep(60)
            node.backup.available = True
            await node.backup.until("app.db", pos)
        waits = [round(after - before) for before, after in zip(node.backup.looks, node.backup.looks[1:], strict=False)]
        assert waits[:5] == [1, 2, 4, 8, 10]
        assert "backup stream failed, retrying: fetch position map: " in caplog.text

    run(main)


def test_it_stops_in_the_middle_of_an_upload_when_the_role_is_lost(node: Node) -> None:
    async def main() -> None:
        db = node.database()
        pos = db.write({1: b"one"})
        node.backup.gate = trio.Event()
        async with node.running():
            await node.backup.begun.wait()
            node.role.set(is_primary=False)
            await trio.testing.wait_all_tasks_blocked(0.01)
            node.backup.gate.set()
            await trio.sleep(60)
            assert node.backup.databases == {}
            node.role.set(is_primary=True)
            await node.backup.until("app.db", pos)

    run(main)


def test_one_that_is_refused_does_not_hold_up_the_others(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        bad, good = node.database("bad.db"), node.database("good.db")
        bad.write({1: b"one"})
        node.backup.refused = {"bad.db"}
        async with node.running():
            await node.backup.until("good.db", good.write({1: b"one"}))
            assert set(node.service.progress.troubles) == {"bad.db"}
            node.backup.refused.clear()
            await node.backup.until("bad.db", bad.pos)
            await trio.sleep(20)
            assert node.service.progress.troubles == {}

    run(main)
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == ['"bad.db" is not backed up now, will try again: write backup tx: this one not']


def test_a_deletion_is_uploaded(node: Node) -> None:
    async def main() -> None:
        db = node.database()
        async with node.running():
            await node.backup.until("app.db", db.write({1: b"one"}))
            db.drop()
            await node.backup.until("app.db", Pos(2, EMPTY))
            await node.backup.until("app.db", db.write({1: b"again"}))

    run(main)


def test_what_was_deleted_before_it_was_saved_is_left_out(node: Node) -> None:
    async def main() -> None:
        db = node.database()
        db.write({1: b"one"})
        db.drop()
        async with node.running():
            await trio.sleep(15)
            found = node.service.progress.statistics()
            assert (found.lag_transactions, found.lag_seconds) == (0, 0)
        assert node.backup.databases == {}

    run(main)


def test_a_database_that_applications_lock_is_tried_again(node: Node) -> None:
    async def main() -> None:
        db = node.database()
        for number in range(3):
            db.write({1: b"%d" % number})
        db.ltx_dir.remove((1, 1))  # so that it has to be copied

        @asynccontextmanager
        async def locked(patience: float) -> AsyncIterator[None]:
            raise DatabaseRefused("locked")
            yield

        free, db.snapshot = db.snapshot, locked  # type: ignore[method-assign, assignment]
        async with node.running():
            await trio.sleep(5)
            assert "locked" in node.service.progress.troubles["app.db"]
            db.snapshot = free  # type: ignore[method-assign]
            await node.backup.until("app.db", db.pos)
            assert not list(db.ltx_dir.path.glob("*.tmp"))

    run(main)


def test_an_empty_node_waits_for_the_backup(node: Node) -> None:
    async def main() -> None:
        node.backup.available = False
        async with node.running():
            with trio.move_on_after(120) as waiting:
                await node.service.wait_restored()
            assert waiting.cancelled_caught
            node.backup.available = True
            await node.service.wait_restored()

    run(main)


def test_a_node_with_data_or_without_the_role_does_not_wait(tmp_path: Path) -> None:
    async def main() -> None:
        full, replica = Node(tmp_path / "full"), Node(tmp_path / "replica")
        full.database().write({1: b"one"})
        full.backup.available = replica.backup.available = False
        replica.role.set(is_primary=False)
        for node in full, replica:
            async with node.running():
                await node.service.wait_restored()

    run(main)


@pytest.mark.parametrize("on_mismatch", ["stop", "keep-local"])
def test_other_ways_to_handle_a_mismatch(tmp_path: Path, on_mismatch: str) -> None:
    async def main() -> None:
        node, other = Node(tmp_path / "one", on_mismatch=on_mismatch), FakeStore(tmp_path / "two")
        db, theirs = node.database(), other.add("app.db")
        async with node.running():
            await node.backup.until("app.db", db.write({1: b"one"}))
        theirs.write({1: b"other", 2: b"two"})
        node.backup.databases["app.db"] = [theirs.ltx_dir.file(1, 1).read_bytes()]
        async with node.running():
            await trio.sleep(15)
            assert (
                "do not continue each other" in node.service.progress.troubles["app.db"] or on_mismatch == "keep-local"
            )
            assert node.backup._position("app.db") == theirs.pos
            pos = db.write({1: b"later"})  # now we are ahead
            if on_mismatch == "stop":
                await trio.sleep(30)
                assert node.backup._position("app.db") == theirs.pos
            else:
                await node.backup.until("app.db", pos)
                while node.service.progress.troubles:
                    await trio.sleep(1)
                assert node.service.progress.troubles == {}
                await node.backup.until("app.db", db.write({1: b"and on"}))
        assert db.pages[1].startswith(b"later" if on_mismatch == "stop" else b"and on")

    run(main)


def test_a_bug_does_not_end_the_node(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        pos = node.database().write({1: b"one"})
        real = node.backup.positions

        async def broken() -> dict[str, Pos]:
            raise ZeroDivisionError

        node.backup.positions = broken  # type: ignore[method-assign]
        async with node.running():
            await trio.sleep(5)
            node.backup.positions = real  # type: ignore[method-assign]
            await node.backup.until("app.db", pos)

    run(main)
    assert "ZeroDivisionError" in caplog.text


def test_an_error_that_is_no_databases_ends_the_session(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        pos = node.database().write({1: b"one"})
        real = node.backup.write

        async def broken(name: str, ltx: AsyncIterator[bytes]) -> int:
            node.backup.write = real  # type: ignore[method-assign]
            raise BackupError("backup client error (500): something broke")

        node.backup.write = broken  # type: ignore[method-assign]
        async with node.running():
            await node.backup.until("app.db", pos)

    run(main)
    text = 'backup stream failed, retrying: backup stream error ("app.db"): write backup tx: backup client error (500)'
    assert text in caplog.text
