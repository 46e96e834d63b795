"""Keeping other writers out from one transaction to the next."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from litefs.live import Busy, LiveDatabase

from .client import Client, ClientError
from .origin import Origin, step

MODES = pytest.mark.parametrize("mode", ["wal", "delete"])


def hold(live: LiveDatabase, seconds: float = 2.0) -> None:
    live.hold(lambda: None, time.monotonic() + seconds)


@MODES
def test_we_write_and_nobody_else(tmp_path: Path, path: Path, live: LiveDatabase, mode: str) -> None:
    origin = Origin(tmp_path / "origin.db", mode=mode)
    step(origin, live, "CREATE TABLE t(a)")
    with Client(str(path), timeout=0) as client:
        hold(live)
        for number in range(5):
            with pytest.raises(ClientError, match="locked"):
                client("INSERT INTO t VALUES(-1)")
            step(origin, live, f"INSERT INTO t VALUES({number})")
            assert client.value("SELECT count(*) FROM t") == number + 1  # readers go on
        live.checkpoint()
        with live.snapshot(str(path), f"{path}-wal", lambda: None, time.monotonic() + 2) as snapshot:
            assert b"".join(data for _, data in snapshot.pages()) == origin.data()
        with pytest.raises(ClientError, match="locked"):
            client("INSERT INTO t VALUES(-1)")
        live.unhold()
        client("INSERT INTO t VALUES(-1)")
        assert client.value("PRAGMA integrity_check") == "ok"


@MODES
def test_a_writer_is_waited_for(tmp_path: Path, path: Path, live: LiveDatabase, mode: str) -> None:
    origin = Origin(tmp_path / "origin.db", mode=mode)
    step(origin, live, "CREATE TABLE t(a)")
    with Client(str(path), timeout=0) as client:
        client("BEGIN IMMEDIATE")
        with pytest.raises(Busy, match="another writer is active"):
            hold(live, 0.02)
        client("INSERT INTO t VALUES(1)")
        client("COMMIT")
        hold(live)
        with pytest.raises(ClientError, match="locked"):
            client("INSERT INTO t VALUES(2)")


@MODES
def test_what_the_caller_raises_ends_it(tmp_path: Path, path: Path, live: LiveDatabase, mode: str) -> None:
    origin = Origin(tmp_path / "origin.db", mode=mode)
    step(origin, live, "CREATE TABLE t(a)")
    with pytest.raises(ZeroDivisionError):
        live.hold(lambda: print(1 / 0), time.monotonic() + 2)
    with Client(str(path), timeout=0) as client:
        client("INSERT INTO t VALUES(1)")


def test_a_database_that_is_not_there_yet(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = Origin(tmp_path / "origin.db", mode="delete")
    hold(live)
    with Client(str(path), timeout=0) as client:
        with pytest.raises(ClientError, match="locked"):
            client("CREATE TABLE t(a)")
        step(origin, live, "CREATE TABLE t(a)")
        with pytest.raises(ClientError, match="locked"):
            client("INSERT INTO t VALUES(1)")
        live.unhold()
        client("INSERT INTO t VALUES(1)")


def test_the_database_changes_to_wal_meanwhile(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = Origin(tmp_path / "origin.db", mode="delete")
    step(origin, live, "CREATE TABLE t(a)")
    hold(live)
    origin.db.execute("PRAGMA journal_mode=WAL")
    step(origin, live, "INSERT INTO t VALUES(1)")
    with Client(str(path), timeout=0) as client:
        assert client.value("PRAGMA journal_mode") == "wal"
        with pytest.raises(ClientError, match="locked"):
            client("INSERT INTO t VALUES(2)")
        step(origin, live, "INSERT INTO t VALUES(3)")
        with pytest.raises(ClientError, match="locked"):
            client("INSERT INTO t VALUES(2)")
        live.unhold()
        client("INSERT INTO t VALUES(2)")
        assert client("SELECT a FROM t") == [[1], [3], [2]]


def test_the_database_leaves_wal_meanwhile(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = Origin(tmp_path / "origin.db", mode="wal")
    step(origin, live, "CREATE TABLE t(a)")
    hold(live)
    origin.db.execute("PRAGMA journal_mode=DELETE")
    for number in range(3):
        step(origin, live, f"INSERT INTO t VALUES({number})")
        with Client(str(path), timeout=0) as client, pytest.raises(ClientError, match="locked"):
            client("INSERT INTO t VALUES(-1)")
    live.unhold()
    with Client(str(path), timeout=0) as client:
        client("INSERT INTO t VALUES(3)")
        assert client("SELECT a FROM t") == [[0], [1], [2], [3]]
