"""Snapshots while others write, and what they keep others from."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from litefs.errors import CorruptDatabase
from litefs.live import Busy, LiveDatabase, Snapshot
from litefs.live import snapshot as module
from litefs.live.snapshot import Source
from litefs.ltx import lock_page

from .client import Client, ClientError
from .origin import Origin, apply, filled, nothing, step
from .reader import CREATE, FILL, LOOK, next_generation


def begin(live: LiveDatabase, path: Path, note: object = None, seconds: float = 10) -> Snapshot[object]:
    return live.snapshot(str(path), f"{path}-wal", lambda: note, time.monotonic() + seconds)


def drain(snapshot: Snapshot[object], batch: int = 7) -> bytes:
    with snapshot:
        parts = list(snapshot.pages(batch))
    assert [first for first, _ in parts] == list(range(1, snapshot.commit + 1, batch))
    return b"".join(data for _, data in parts)


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("page_size", [512, 65536])
def test_writers_go_on_and_the_snapshot_stays(
    tmp_path: Path, path: Path, live: LiveDatabase, mode: str, page_size: int
) -> None:
    origin = filled(tmp_path, live, page_size, mode)
    with Client(str(path), timeout=0) as client:
        for number in range(1, 8):
            step(origin, live, next_generation(number))
            before = origin.data()
            snapshot = begin(live, path, number)
            assert (snapshot.noted, snapshot.page_size) == (number, page_size)
            for extra in range(5):
                step(origin, live, next_generation(number * 10 + extra), f"CREATE TABLE t{number}_{extra}(x)")
                live.checkpoint()
                client("PRAGMA wal_checkpoint(TRUNCATE)")
                assert client.value("SELECT min(generation) FROM t") == number * 10 + extra
            assert drain(snapshot) == before
            live.checkpoint()


@pytest.mark.parametrize("mode", ["PASSIVE", "TRUNCATE"])
def test_a_log_that_was_copied_may_be_written_over(tmp_path: Path, path: Path, live: LiveDatabase, mode: str) -> None:
    origin = filled(tmp_path, live)
    step(origin, live, next_generation(1))
    before = origin.data()
    with Client(str(path), timeout=0) as client:
        assert client(f"PRAGMA wal_checkpoint({mode})")[0][0] == 0
        with begin(live, path) as snapshot:
            for number in range(3):
                client(f"UPDATE t SET generation={number}, pad=randomblob(800)")
            client("PRAGMA wal_checkpoint(TRUNCATE)")
            assert drain(snapshot) == before
        assert client("PRAGMA wal_checkpoint(TRUNCATE)") == [[0, 0, 0]]


def test_only_snapshots_hold_up_checkpoints_and_they_share(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    step(origin, live, next_generation(1))
    with Client(str(path), timeout=0) as client:
        first, second = begin(live, path), begin(live, path)
        first.close()
        first.close()
        assert client("PRAGMA wal_checkpoint(PASSIVE)") == [[1, -1, -1]]
        second.close()
        assert client("PRAGMA wal_checkpoint(TRUNCATE)") == [[0, 0, 0]]


def test_closing_the_database_first_keeps_the_snapshot(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    step(origin, live, next_generation(1))
    snapshot = begin(live, path)
    live.close()
    assert Path(f"{path}-wal").exists()
    assert drain(snapshot) == origin.data()
    assert not Path(f"{path}-wal").exists()
    with pytest.raises(ValueError, match="closed"):
        next(snapshot.pages())


def test_no_database_and_an_empty_one(path: Path, live: LiveDatabase) -> None:
    for _ in range(2):
        snapshot = begin(live, path, "here")
        assert (snapshot.noted, snapshot.page_size, snapshot.commit) == ("here", 0, 0)
        assert drain(snapshot) == b""
        path.touch()


def test_what_note_raises_releases_everything(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    def fail() -> None:
        raise KeyError("position")

    for mode in ("wal", "delete"):
        origin = Origin(tmp_path / f"{mode}.db", mode=mode)
        origin.execute(CREATE, FILL)
        apply(live, origin.everything())
        with pytest.raises(KeyError):
            live.snapshot(str(path), f"{path}-wal", fail, time.monotonic() + 1)
        with Client(str(path), timeout=0) as client:
            client("UPDATE t SET generation=1")
            if mode == "wal":
                client("PRAGMA wal_checkpoint(TRUNCATE)")
        live.close()
        path.unlink()


def test_note_is_called_while_nobody_can_commit(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    for mode in ("wal", "delete"):
        origin = Origin(tmp_path / f"{mode}.db", mode=mode)
        origin.execute(CREATE, FILL)
        apply(live, origin.everything())
        with Client(str(path), timeout=0) as client:

            def note(client: Client = client) -> bytes:
                with pytest.raises(ClientError, match="locked"):
                    client("UPDATE t SET generation=1")
                return live.index_header()

            with live.snapshot(str(path), f"{path}-wal", note, time.monotonic() + 1) as snapshot:
                assert len(snapshot.noted) == (48 if mode == "wal" else 0)
        live.close()
        path.unlink()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_connection_in_exclusive_mode_makes_us_give_up(
    tmp_path: Path, path: Path, live: LiveDatabase, mode: str
) -> None:
    origin = Origin(tmp_path / "origin.db", mode=mode)
    origin.execute(CREATE, FILL)
    apply(live, origin.everything())
    live.close()
    with Client(str(path)) as client:
        client("PRAGMA locking_mode=EXCLUSIVE")
        client("UPDATE t SET generation=5")
        with pytest.raises(Busy):
            begin(live, path, seconds=0.02)


def test_a_writer_that_has_not_begun_to_commit_is_no_obstacle(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = Origin(tmp_path / "origin.db", mode="delete")
    origin.execute(CREATE, FILL)
    apply(live, origin.everything())
    with Client(str(path)) as client:
        client("BEGIN IMMEDIATE")
        client("UPDATE t SET generation=5")
        assert drain(begin(live, path)) == origin.data()
        client("COMMIT")
        assert client(LOOK) == [[5, 5, 100]]


def test_a_large_copy_lies_in_a_file_without_name(
    tmp_path: Path, path: Path, live: LiveDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_IN_MEMORY", 1000)
    origin = Origin(tmp_path / "origin.db", mode="delete")
    origin.execute(CREATE, FILL)
    apply(live, origin.everything())
    with begin(live, path) as snapshot:
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy.db", "origin.db"]
        before = origin.data()
        step(origin, live, next_generation(1))
        assert drain(snapshot) == before


def test_a_file_that_is_longer_than_the_database(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = Origin(tmp_path / "origin.db", mode="delete")
    origin.execute(CREATE, FILL)
    path.write_bytes(origin.data() + bytes(8192))
    assert drain(begin(live, path)) == origin.data()


def test_a_file_that_is_no_database(path: Path, live: LiveDatabase) -> None:
    path.write_bytes(b"something else" * 1000)
    with pytest.raises(CorruptDatabase, match="not a SQLite database"):
        begin(live, path)
    Path(f"{path}-wal").touch()
    with pytest.raises(CorruptDatabase, match="not a database"):
        begin(live, path)


def test_the_lock_page_comes_as_zeros(tmp_path: Path) -> None:
    size = 65536
    page = lock_page(size)
    with open(tmp_path / "large", "w+b") as file:
        for pgno in range(page - 2, page + 3):
            file.seek((pgno - 1) * size)
            file.write(bytes([pgno % 256]) * size)
        file.flush()
        source = Source("large", size, file.fileno(), ExitStack())
        data = source.read(page - 1, 3)
        assert data[size : 2 * size] == bytes(size)
        assert data[:1] + data[-1:] == bytes([(page - 1) % 256, (page + 1) % 256])
        assert source.read(page, 1) == bytes(size)
        with pytest.raises(CorruptDatabase, match="ends at byte"):
            source.read(page + 2, 2)


def test_large_logs_and_busy_writers(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live, 512)
    with Client(str(path)) as client:
        client("BEGIN")
        client(LOOK)
        for number in range(1, 60):
            step(origin, live, next_generation(number))
    copy = tmp_path / "restored.db"
    before = origin.data()
    assert Path(f"{path}-wal").stat().st_size > 2 * 4096 * 536
    snapshot = begin(live, path)
    copy.write_bytes(drain(snapshot, 256))
    assert copy.read_bytes() == before
    with sqlite3.connect(copy) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_nothing_is_noted_under_a_deadline_that_passed(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    filled(tmp_path, live)
    assert begin(live, path, seconds=0).commit > 0
    with Client(str(path)) as client:
        client("BEGIN IMMEDIATE")
        with pytest.raises(Busy, match="another writer"):
            live.snapshot(str(path), f"{path}-wal", nothing, time.monotonic())
