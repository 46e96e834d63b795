from __future__ import annotations

import time
from pathlib import Path

import pytest

from litefs.live import LiveDatabase

from .client import Client
from .origin import filled, step
from .reader import LOOK, next_generation


@pytest.mark.alone
def test_copies_what_readers_allow_and_never_waits(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    step(origin, live, next_generation(1))
    with Client(str(path)) as client:
        client("BEGIN")
        client(LOOK)
        step(origin, live, next_generation(2))
        started = time.monotonic()
        live.checkpoint()
        assert time.monotonic() - started < 0.5
        assert client(LOOK) == [[1, 1, 100]]
        client("COMMIT")
        client("BEGIN IMMEDIATE")
        live.checkpoint()
        assert path.read_bytes() == origin.data()


def test_a_large_log_is_emptied_when_nobody_reads(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    log = Path(f"{path}-wal")
    step(origin, live, "INSERT INTO t(pad) VALUES(zeroblob(5000000))")
    with Client(str(path)) as client:
        client("BEGIN")
        client(LOOK)
        live.checkpoint()
        assert log.stat().st_size > 5_000_000
        client("COMMIT")
        live.checkpoint()
        assert log.stat().st_size == 0
        step(origin, live, "DELETE FROM t WHERE k > 100", next_generation(1))
        live.checkpoint()
        assert 0 < log.stat().st_size < 4 << 20
        assert client(LOOK) == [[1, 1, 100]]
        assert client.value("PRAGMA integrity_check") == "ok"


def test_without_a_log_there_is_nothing_to_do(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    live.checkpoint()
    assert not path.exists()
    origin = filled(tmp_path, live, mode="delete")
    live.checkpoint()
    assert path.read_bytes() == origin.data()


def test_the_last_one_to_close_removes_the_log(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    with Client(str(path)) as client:
        for number in range(1, 4):
            step(origin, live, next_generation(number))
            client(LOOK)
            live.close()
            assert Path(f"{path}-wal").exists()
    step(origin, live, next_generation(4))
    live.close()
    live.close()
    assert sorted(entry.name for entry in tmp_path.glob("copy*")) == ["copy.db"]
    assert path.read_bytes() == origin.data()
