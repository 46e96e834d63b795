from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from litefs.ltx import CHECKSUM_FLAG, Pos, Trailer
from litefs.store import trail
from litefs.store.database import Database
from litefs.store.ltxdir import LTXDir
from litefs.store.publisher import State
from litefs.store.store import Store
from litefs.store.trail import Place, Trail

TOP = CHECKSUM_FLAG


class History:
    """A database as its trail sees it: positions, and files that end with their checksums."""

    def __init__(self, directory: Path) -> None:
        self.ltx_dir = LTXDir(directory)
        self.ltx_dir.load()
        self.pos = Pos(0, 0)
        self.trail = Trail(self.ltx_dir, lambda: self.pos)

    def move(self, txid: int, checksum: int, *, low: int = 0) -> None:
        self.pos = Pos(txid, checksum)
        low = low or txid
        self.ltx_dir.file(low, txid).write_bytes(b"pages" + Trailer(checksum, TOP).encode())
        self.ltx_dir.add(low, txid, 1)
        self.trail.note(self.pos)

    def forget(self) -> None:
        """As a process that has just started."""
        self.trail = Trail(self.ltx_dir, lambda: self.pos)

    def places(self, *positions: Pos) -> list[Place]:
        async def search() -> list[Place]:
            return [await self.trail.search(pos) for pos in positions]

        return trio.run(search)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "ltx")


@pytest.mark.parametrize("forgotten", [False, True])
def test_the_checksum_tells_histories_apart(history: History, forgotten: bool) -> None:
    for txid in range(1, 6):
        history.move(txid, TOP + txid)
    if forgotten:
        history.forget()
    positions = [Pos(3, TOP + 3), Pos(3, TOP + 4), Pos(5, TOP + 5), Pos(5, TOP), Pos(6, TOP + 6)]
    wanted = [Place.HERE, Place.ELSEWHERE, Place.HERE, Place.ELSEWHERE, Place.AHEAD]
    assert history.places(*positions) == wanted
    assert history.places(*positions) == wanted  # what was read is remembered


def test_what_is_taken_back_counts_no_more(history: History) -> None:
    history.move(1, TOP + 1)
    history.move(2, TOP + 2)
    history.ltx_dir.remove((2, 2))
    history.pos = Pos(1, TOP + 1)
    history.trail.note(history.pos)
    assert history.places(Pos(2, TOP + 2)) == [Place.AHEAD]
    history.move(2, TOP + 7)
    history.move(3, TOP + 8)
    assert history.places(Pos(2, TOP + 2), Pos(2, TOP + 7)) == [Place.ELSEWHERE, Place.HERE]


def test_a_snapshot_ends_all_that_was_known(history: History) -> None:
    for txid in range(1, 4):
        history.move(txid, TOP + txid)
    replaced = history.trail.replaced
    history.ltx_dir.set_aside([(txid, txid) for txid in range(1, 4)], history.ltx_dir.path.with_name("branch"))
    history.trail.clear()
    history.move(4, TOP + 99, low=1)
    history.move(5, TOP + 100)
    assert replaced.is_set()
    assert history.places(Pos(3, TOP + 3), Pos(4, TOP + 99)) == [Place.FORGOTTEN, Place.HERE]
    history.forget()
    assert history.places(Pos(4, TOP + 99), Pos(4, TOP + 4)) == [Place.HERE, Place.ELSEWHERE]


def test_memory_has_an_end_and_files_go_on(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "SIZE", 4)
    history.forget()
    for txid in range(1, 11):
        history.move(txid, TOP + txid)
    assert history.trail.look(Pos(7, TOP + 7)) is Place.HERE
    assert history.trail.look(Pos(6, TOP + 6)) is Place.FORGOTTEN
    assert history.places(Pos(6, TOP + 6), Pos(6, TOP)) == [Place.HERE, Place.ELSEWHERE]
    assert history.trail.look(Pos(10, TOP + 10)) is Place.HERE  # not displaced by the older one
    history.ltx_dir.remove((1, 1))
    history.ltx_dir.file(2, 2).write_bytes(b"torn")
    assert history.places(Pos(1, TOP + 1), Pos(2, TOP + 2)) == [Place.FORGOTTEN] * 2


# ---- of a database


async def _database(tmp_path: Path) -> Database:
    return await Store(tmp_path / "data", tmp_path / "mnt").database("app.db", create=True)


def test_a_database_notes_where_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        db = await _database(tmp_path)
        for txid in range(1, 4):
            db.state = State(Pos(txid, TOP + txid))
            db.position_moved()
            assert db.trail.look(Pos(txid, TOP + txid)) is Place.HERE
        assert db.trail.look(Pos(2, TOP + 2)) is Place.HERE
        db.begins_at(3)
        assert db.trail.look(Pos(2, TOP + 2)) is Place.FORGOTTEN

    trio.run(main)


def test_waiting_for_a_transaction(tmp_path: Path) -> None:
    async def main() -> None:
        db = await _database(tmp_path)
        assert not await db.wait_position(1, 0.01)
        async with trio.open_nursery() as nursery:

            async def move() -> None:
                for txid in (1, 2):
                    await trio.testing.wait_all_tasks_blocked()
                    db.state = State(Pos(txid, TOP))
                    db.position_moved()

            nursery.start_soon(move)
            assert await db.wait_position(2, 10)
            assert db.pos.txid == 2

    trio.run(main)
