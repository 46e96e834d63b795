from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from litefs.errors import FormatError
from litefs.sqlite import locks, wal, walblock, walindex
from litefs.sqlite.wal import FrameWriter, WalHeader
from litefs.sqlite.walindex import CheckpointInfo, MemoryIndex, WalIndexHeader

if TYPE_CHECKING:
    from tests.sqlite.conftest import GoldenWal

HEADER = WalIndexHeader(4096, 7, 3, (0x11223344, 0x55667788), b"saltsalt", change=5)


class FileIndex:
    """A live wal-index, reached by system calls."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, offset: int, length: int, /) -> bytes:
        return os.pread(self._fd, length, offset)

    def write(self, offset: int, data: bytes, /) -> None:
        assert os.pwrite(self._fd, data, offset) == len(data)


def _scan(log: bytes) -> list[wal.Frame]:
    return list(wal.scan(lambda at, size: log[at : at + size], WalHeader.parse(log)))


def test_golden_header(golden: GoldenWal) -> None:
    facts, index = golden.facts["wal_index"], MemoryIndex(golden.load("shm"))
    header = walindex.read_header(index)
    assert header is not None
    assert header.encode() == index.read(0, 48)
    assert (header.page_size, header.mx_frame, header.n_page) == (
        facts["page_size"],
        facts["mx_frame"],
        facts["n_page"],
    )
    assert header.change == facts["change_counter"]
    assert header.salt.hex() == facts["salt"]
    assert "{:08x}{:08x}".format(*header.frame_checksum) == facts["frame_checksum"]
    info = walindex.read_checkpoint_info(index)
    assert (info.backfill, info.backfill_attempted) == (facts["n_backfill"], facts["n_backfill_attempted"])
    assert [f"{mark:08x}" for mark in info.read_marks] == facts["read_marks"]


def test_golden_index_built_again(golden: GoldenWal) -> None:
    log, index = golden.load("wal"), MemoryIndex(golden.load("shm"))
    header = walindex.read_header(index)
    assert header is not None
    built = MemoryIndex(walindex.build(WalHeader.parse(log), _scan(log), header.change))
    assert walindex.read_header(built) == header
    assert len(built.data) == len(index.data)
    pgnos = list(walindex.page_numbers(index, 1, header.mx_frame))
    assert list(walindex.page_numbers(built, 1, header.mx_frame)) == pgnos
    assert pgnos == [frame.pgno for frame in _scan(log)[: header.mx_frame]]
    latest = walindex.latest_frames(index, header.mx_frame)
    for pgno in random.Random(1).sample(range(1, header.n_page + 2), min(300, header.n_page + 1)):
        expected = latest.get(pgno, 0)
        assert walindex.lookup(index, pgno, header.mx_frame) == expected
        assert walindex.lookup(built, pgno, header.mx_frame) == expected


@pytest.mark.parametrize("page_size", [512 << n for n in range(8)])
@pytest.mark.parametrize("big_endian", [False, True])
def test_header_round_trip(page_size: int, big_endian: bool) -> None:
    header = replace(HEADER, page_size=page_size, big_endian=big_endian)
    assert len(header.encode()) == 48
    assert WalIndexHeader.parse(header.encode()) == header


def test_header_of_an_empty_log_names_no_page_size() -> None:
    header = WalIndexHeader(0, 0, 0, (0, 0), bytes(8))
    assert WalIndexHeader.parse(header.encode()) == header
    with pytest.raises(FormatError, match="at byte 14: 0 is no page size"):
        WalIndexHeader.parse(replace(header, mx_frame=1).encode())


def test_change_counter_wraps() -> None:
    assert WalIndexHeader.parse(replace(HEADER, change=(1 << 32) + 2).encode()).change == 2


@given(st.integers(0, 47), st.integers(0, 7))
def test_header_is_checked(at: int, bit: int) -> None:
    data = bytearray(HEADER.encode())
    data[at] ^= 1 << bit
    with pytest.raises(FormatError):
        WalIndexHeader.parse(bytes(data))


def test_header_being_written_is_not_read() -> None:
    index = MemoryIndex(bytes(walblock.BLOCK_SIZE))
    walindex.write_header(index, HEADER)
    assert walindex.read_header(index) == HEADER
    index.write(48, replace(HEADER, mx_frame=8).encode())
    assert walindex.read_header(index) is None


def test_index_that_nobody_initialised() -> None:
    with pytest.raises(FormatError, match="not initialised"):
        walindex.read_header(MemoryIndex(bytes(walblock.BLOCK_SIZE)))
    with pytest.raises(FormatError, match="has 0 bytes"):
        walindex.read_header(MemoryIndex())
    with pytest.raises(FormatError, match="has 0 bytes"):
        walindex.read_checkpoint_info(MemoryIndex())


def test_checkpoint_info_round_trip() -> None:
    info = CheckpointInfo(3, (0, 4, 5, 6, 7), 9)
    assert CheckpointInfo.parse(info.encode()) == info
    assert info.encode()[locks.WAL_WRITE - 96 : locks.WAL_DMS - 96] == bytes(8)
    assert CheckpointInfo().read_marks == (0, *[walindex.READ_MARK_NOT_USED] * 4)


PGNO = st.one_of(st.integers(1, 50), st.integers(1, (1 << 32) - 2), st.integers(0, 60).map(lambda n: 1 + n * 8192))


@given(st.lists(PGNO, min_size=1, max_size=200), st.lists(st.integers(1, 40)))
def test_lookup_finds_the_newest_frame(pgnos: list[int], pieces: list[int]) -> None:
    index, done = MemoryIndex(), 0
    for size in [*pieces, len(pgnos)]:
        part = pgnos[done : done + size]
        walindex.append_frames(index, done + 1, part)
        done += len(part)
    mx_frame = len(pgnos)
    assert list(walindex.page_numbers(index, 1, mx_frame)) == pgnos
    for last in {1, mx_frame // 2, mx_frame} - {0}:
        newest = {pgno: frame for frame, pgno in enumerate(pgnos[:last], 1)}
        assert walindex.latest_frames(index, last) == newest
        for pgno in pgnos:
            assert walindex.lookup(index, pgno, last) == newest.get(pgno, 0)
            assert walindex.lookup(index, pgno, last, newest.get(pgno, 0) + 1) == 0


@settings(max_examples=20, deadline=None, phases=[Phase.generate])
@given(st.integers(4000, 8300), st.integers(200, 4200), st.integers(0, 1000))
def test_frames_of_several_blocks(first: int, second: int, seed: int) -> None:
    pgnos = [random.Random(seed).randint(1, 3000) for _ in range(first + second)]
    index = MemoryIndex()
    walindex.append_frames(index, 1, pgnos[:first])
    walindex.append_frames(index, first + 1, pgnos[first:])
    assert list(walindex.page_numbers(index, 1, len(pgnos))) == pgnos
    assert list(walindex.page_numbers(index, 4000, 4200)) == pgnos[3999:4200]
    newest = walindex.latest_frames(index, len(pgnos))
    for pgno in random.Random(seed).sample(range(1, 3001), 50):
        assert walindex.lookup(index, pgno, len(pgnos)) == newest.get(pgno, 0)


@given(
    st.lists(PGNO, min_size=1, max_size=60),
    st.lists(PGNO, min_size=1, max_size=60),
    st.lists(PGNO, min_size=1, max_size=60),
)
def test_frames_of_an_unfinished_transaction_are_replaced(a: list[int], b: list[int], c: list[int]) -> None:
    index, expected = MemoryIndex(), MemoryIndex()
    walindex.append_frames(index, 1, a + b)
    walindex.append_frames(index, len(a) + 1, c)
    walindex.append_frames(expected, 1, a + c)
    mx_frame = len(a + c)
    for pgno in a + b + c:
        assert walindex.lookup(index, pgno, mx_frame) == walindex.lookup(expected, pgno, mx_frame)
    assert list(walindex.page_numbers(index, 1, mx_frame)) == a + c


def test_a_restarted_log_starts_the_index_anew() -> None:
    index = MemoryIndex()
    walindex.append_frames(index, 1, list(range(1, 5000)))
    walindex.write_header(index, HEADER)
    walindex.append_frames(index, 1, [3, 2])
    assert walindex.latest_frames(index, 2) == {3: 1, 2: 2}
    assert walindex.lookup(index, 7, 2) == 0
    assert walindex.read_header(index) == HEADER


def test_truncate_forgets_frames() -> None:
    index = MemoryIndex()
    walindex.append_frames(index, 1, [5, 6, 5, 7])
    walindex.truncate(index, 2)
    assert index.read(136, 16) == struct.pack("=4I", 5, 6, 0, 0)
    walindex.append_frames(index, 3, [8])
    assert [walindex.lookup(index, pgno, 3) for pgno in (5, 6, 7, 8)] == [1, 2, 0, 3]
    walindex.truncate(index, 0)
    walindex.truncate(index, walblock.FIRST_BLOCK_FRAMES)


def test_a_damaged_hash_table_does_not_loop() -> None:
    index = MemoryIndex()
    walindex.append_frames(index, 1, [5])
    index.write(walblock.HASH_OFFSET, b"\x01\x00" * walblock.HASH_SLOTS)
    assert walindex.lookup(index, 9, 1) == 0
    with pytest.raises(FormatError, match="hash table is damaged"):
        walindex.append_frames(index, 2, [6])


def test_a_short_index_is_an_error() -> None:
    index = MemoryIndex(bytes(20000))
    with pytest.raises(FormatError, match="ends before frame 4062"):
        list(walindex.page_numbers(MemoryIndex(bytes(16000)), 1, 4062))
    with pytest.raises(FormatError, match="ends inside the hash table"):
        walindex.lookup(index, 1, 10)


@contextmanager
def _wal_database(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE t (x)")
    try:
        yield connection
    finally:
        connection.close()


def test_sqlite_trusts_our_index(tmp_path: Path) -> None:
    """While somebody holds the DMS lock, SQLite uses the index it finds instead of recovering."""
    with _wal_database(tmp_path / "a") as connection:
        for n in range(50):
            connection.execute("INSERT INTO t VALUES (hex(zeroblob(?)))", (n * 100,))
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
    log = (tmp_path / "b-wal").read_bytes()
    built = walindex.build(WalHeader.parse(log), _scan(log), change=77)
    fd = os.open(tmp_path / "b-shm", os.O_RDWR | os.O_CREAT)
    try:
        os.write(fd, built)
        assert locks.try_lock(fd, locks.WAL_DMS, exclusive=False)
        copy = sqlite3.connect(tmp_path / "b", isolation_level=None)
        assert copy.execute("SELECT count(*) FROM t").fetchone() == (50,)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        header = walindex.read_header(FileIndex(fd))
        assert header is not None
        assert header.change == 77
        copy.execute("INSERT INTO t VALUES ('more')")
        header = walindex.read_header(FileIndex(fd))
        assert header is not None
        assert header.change == 78
        copy.close()
    finally:
        os.close(fd)


def test_a_reader_sees_frames_we_append(tmp_path: Path) -> None:
    """Append another database's pages as a WAL writer would, under the eyes of a connection."""
    with _wal_database(tmp_path / "a") as reader:
        reader.execute("INSERT INTO t VALUES ('old')")
        with sqlite3.connect(tmp_path / "b", isolation_level=None) as other:
            reader.backup(other)
            other.execute("UPDATE t SET x = 'new'")
            other.executemany("INSERT INTO t VALUES (?)", [("x" * 3000,)] * 20)
        other.close()
        data = (tmp_path / "b").read_bytes()
        pages = [(at // 4096 + 1, data[at : at + 4096]) for at in range(0, len(data), 4096)]
        reader.execute("BEGIN")
        assert reader.execute("SELECT x FROM t").fetchall() == [("old",)]
        _append(tmp_path / "a", pages)
        assert reader.execute("SELECT x FROM t").fetchall() == [("old",)]
        reader.execute("COMMIT")
        assert reader.execute("SELECT count(*), min(x) FROM t").fetchone() == (21, "new")
        reader.execute("INSERT INTO t VALUES ('own')")
        reader.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (22,)
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _append(path: Path, pages: list[tuple[int, bytes]]) -> None:
    shm = os.open(f"{path}-shm", os.O_RDWR)
    log = os.open(f"{path}-wal", os.O_RDWR)
    try:
        assert locks.try_lock(shm, locks.WAL_WRITE, exclusive=True)
        index = FileIndex(shm)
        header = walindex.read_header(index)
        assert header is not None
        writer = FrameWriter(WalHeader.parse(os.pread(log, 32, 0)), header.mx_frame + 1, header.frame_checksum)
        offset, first = writer.offset, writer.next_frame
        os.pwrite(log, writer.encode(pages, len(pages)), offset)
        walindex.append_frames(index, first, [pgno for pgno, _ in pages])
        after = replace(
            header,
            mx_frame=writer.next_frame - 1,
            n_page=len(pages),
            frame_checksum=writer.checksum,
            change=header.change + 1,
        )
        walindex.write_header(index, after)
        locks.unlock(shm, locks.WAL_WRITE)
    finally:
        # Closing would drop this process's POSIX locks, the reader's among them, if it held any.
        os.close(log)
        os.close(shm)
