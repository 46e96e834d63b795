"""Applying to a database with a rollback journal, and to one that does not exist yet."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from litefs.live import Busy, LiveDatabase

from .client import Client, ClientError
from .origin import Origin, apply, content, filled, step
from .reader import CREATE, FILL, LOOK, Reader, next_generation


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_every_transaction_leaves_the_database_whole(
    tmp_path: Path, path: Path, live: LiveDatabase, page_size: int
) -> None:
    origin = Origin(tmp_path / "origin.db", page_size, "delete")
    step(origin, live, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    with Client(str(path)) as client:
        for number in range(60):
            step(
                origin,
                live,
                f"INSERT INTO t(b) VALUES(randomblob({number * 137 % 4000}))",
                f"DELETE FROM t WHERE a % 7 = {number % 7} AND {number % 5 == 0}",
            )
            assert path.read_bytes() == origin.data()
            assert client("SELECT a, length(b) FROM t") == origin.rows("SELECT a, length(b) FROM t")
            assert client.value("PRAGMA integrity_check") == "ok"
        assert client.value("PRAGMA journal_mode") == "delete"


@pytest.mark.slow
def test_readers_never_see_a_torn_state(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live, mode="truncate")
    readers = [Reader(path) for _ in range(3)]
    end, number = time.monotonic() + 3, 0
    while time.monotonic() < end:
        number += 1
        step(origin, live, next_generation(number))
    seen = [reader.finish() for reader in readers]
    assert min(count for count, _ in seen) > 0, seen
    assert number > 20
    assert path.read_bytes() == origin.data()


def test_a_reader_delays_us_and_then_makes_us_give_up(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live, mode="delete")
    origin.execute(next_generation(1))
    changes = origin.changes()
    with Client(str(path)) as client, Client(str(path), timeout=0) as other:
        client("BEGIN")
        client(LOOK)
        with pytest.raises(Busy, match="a reader does not finish"):
            apply(live, changes, before=lambda: pytest.fail("called"), seconds=0.02)
        assert other(LOOK) == [[0, 0, 100]]
        thread = threading.Thread(target=apply, args=(live, changes))
        thread.start()
        while True:  # until the pending lock turns new readers away
            try:
                other(LOOK)
            except ClientError:
                break
        client("COMMIT")
        thread.join()
        assert other(LOOK) == client(LOOK) == [[1, 1, 100]]


def test_a_writer_makes_us_give_up(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live, mode="delete")
    with Client(str(path)) as client:
        client("BEGIN IMMEDIATE")
        client("UPDATE t SET generation=7")
        with pytest.raises(Busy, match="another writer"):
            apply(live, origin.everything(), seconds=0.02)
        client("COMMIT")
        assert client(LOOK) == [[7, 7, 100]]


def test_before_may_refuse(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live, mode="delete")
    origin.execute(next_generation(1))

    def refuse() -> None:
        with Client(str(path), timeout=0) as other, pytest.raises(ClientError, match="locked"):
            other(LOOK)
        raise PermissionError

    with pytest.raises(PermissionError):
        apply(live, origin.changes(), before=refuse)
    with Client(str(path), timeout=0) as client:
        assert client(LOOK) == [[0, 0, 100]]
        client("UPDATE t SET generation=2")


def test_a_hot_journal_is_rolled_back_first(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live, mode="delete")
    for number in range(1, 4):
        with Client(str(path)) as writer:
            writer("PRAGMA cache_size=2")
            writer("PRAGMA cache_spill=2")
            writer("BEGIN")
            writer("UPDATE t SET generation=-1, pad=randomblob(900)")
            writer.kill()
        assert Path(f"{path}-journal").exists()
        if number == 3:
            assert content(live, path) == origin.data()
        step(origin, live, f"UPDATE t SET generation={number} WHERE k < 50")
        assert path.read_bytes() == origin.data()


def test_a_persistent_journal_is_no_obstacle(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = Origin(tmp_path / "origin.db", mode="delete")
    origin.execute(CREATE, FILL)
    apply(live, origin.everything())
    with Client(str(path)) as client:
        for mode in ("persist", "truncate"):
            client(f"PRAGMA journal_mode={mode}")
            client("UPDATE t SET generation=9")
            assert Path(f"{path}-journal").exists()
            origin.execute(next_generation(1))
            origin.execute(next_generation(1))  # else the change counters agree and nobody notices
            apply(live, origin.everything())
            assert client(LOOK) == [[1, 1, 100]]


def test_a_connection_opened_before_there_was_a_database(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = Origin(tmp_path / "origin.db")
    origin.execute(CREATE, FILL)
    with Client(str(path)) as client:
        assert client("SELECT * FROM sqlite_master") == []
        apply(live, origin.changes())
        assert client(LOOK) == [[0, 0, 100]]
        assert client.value("PRAGMA journal_mode") == "wal"


def test_a_log_left_by_an_earlier_database_is_not_replayed(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    step(origin, live, next_generation(1))
    log = Path(f"{path}-wal").read_bytes()
    assert log
    live.close()
    path.unlink()
    Path(f"{path}-wal").write_bytes(log)
    other = Origin(tmp_path / "other.db")
    other.execute(CREATE, FILL, next_generation(7))
    apply(live, other.everything())
    with Client(str(path)) as client:
        assert client(LOOK) == [[7, 7, 100]]
        assert client.value("PRAGMA integrity_check") == "ok"
