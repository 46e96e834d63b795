from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from litefs.sqlite import locks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    connection = sqlite3.connect(tmp_path / "db")
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    return tmp_path / "db"


@pytest.fixture
def fds(path: Path) -> Iterator[tuple[int, int]]:
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    yield first, second
    os.close(first)
    os.close(second)


def test_exclusive_lock_excludes_another_open_file(fds: tuple[int, int]) -> None:
    first, second = fds
    assert locks.try_lock(first, 120, exclusive=True)
    assert locks.try_lock(first, 120, exclusive=True)
    assert not locks.try_lock(second, 120, exclusive=True)
    assert not locks.try_lock(second, 100, 50, exclusive=False)
    assert locks.try_lock(second, 121, exclusive=True)
    locks.unlock(first, 120)
    assert locks.try_lock(second, 120, exclusive=True)


def test_shared_locks_share(fds: tuple[int, int]) -> None:
    first, second = fds
    assert locks.try_lock(first, locks.SHARED_FIRST, locks.SHARED_SIZE, exclusive=False)
    assert locks.try_lock(second, locks.SHARED_FIRST, locks.SHARED_SIZE, exclusive=False)
    assert not locks.try_lock(first, locks.SHARED_FIRST, locks.SHARED_SIZE, exclusive=True)


def test_probe_names_the_lock(fds: tuple[int, int]) -> None:
    first, second = fds
    assert locks.probe(second, 0, 1000) is None
    assert locks.try_lock(first, 124, 2, exclusive=False)
    assert locks.probe(second, 0, 1000) == locks.Holder(False, 124, 2, -1)
    assert locks.probe(second, 0, 1000, exclusive=False) is None


def test_sqlite_respects_our_locks(path: Path, fds: tuple[int, int]) -> None:
    assert locks.try_lock(fds[0], locks.RESERVED_BYTE, exclusive=True)
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        connection.execute("BEGIN IMMEDIATE")
    locks.unlock(fds[0], locks.RESERVED_BYTE)
    connection.execute("BEGIN IMMEDIATE")
    connection.close()


def test_we_respect_sqlite_s_locks(path: Path, fds: tuple[int, int]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    assert not locks.try_lock(fds[0], locks.RESERVED_BYTE, exclusive=True)
    holder = locks.probe(fds[0], locks.RESERVED_BYTE)
    assert holder is not None
    assert (holder.exclusive, holder.pid) == (True, os.getpid())
    connection.execute("COMMIT")
    assert locks.try_lock(fds[0], locks.RESERVED_BYTE, exclusive=True)
    connection.close()


def test_errors_pass_through(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            locks.try_lock(fd, 120, exclusive=True)
    finally:
        os.close(fd)
