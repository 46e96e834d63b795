from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litefs.errors import FormatError
from litefs.ltx import database_checksum, format_checksum, page_checksum
from litefs.sqlite import wal
from litefs.sqlite.wal import Frame, FrameWriter, WalHeader

if TYPE_CHECKING:
    from tests.sqlite.conftest import GoldenWal

HEADER = WalHeader(512, 0x11223344, 0x55667788, checkpoint_seq=3)
PAGES = [(n, random.Random(n).randbytes(512)) for n in range(1, 6)]


def _log(header: WalHeader = HEADER) -> bytes:
    """Two transactions: pages 1 to 3, pages 4 and 5."""
    writer = FrameWriter(header)
    return header.encode() + writer.encode(PAGES[:3], 3) + writer.encode(PAGES[3:], 5)


def _frames(log: bytes, max_bytes: int | None = None) -> list[Frame]:
    return list(wal.scan(lambda at, size: log[at : at + size], WalHeader.parse(log), max_bytes=max_bytes))


def _hex(frame: Frame) -> list[object]:
    return [frame.pgno, frame.commit, "{:08x}{:08x}".format(*frame.checksum)]


def test_golden_frames(golden: GoldenWal) -> None:
    facts, log = golden.facts["wal"], golden.load("wal")
    header = WalHeader.parse(log)
    assert header.encode() == log[:32]
    assert (header.page_size, header.checkpoint_seq) == (facts["page_size"], facts["checkpoint_seq"])
    assert header.salt.hex() == facts["salt1"] + facts["salt2"]
    frames = _frames(log)
    assert len(frames) == facts["valid_frames"]
    assert [frame.number for frame in frames] == list(range(1, len(frames) + 1))
    expected = facts["frames_pgno_commit_checksum"]
    if "..." in expected:
        cut = expected.index("...")
        assert [_hex(frame) for frame in frames[cut + 1 - len(expected) :]] == expected[cut + 1 :]
        expected = expected[:cut]
    assert [_hex(frame) for frame in frames[: len(expected)]] == expected[: len(frames)]
    committed = [frame for frame in frames if frame.commit]
    assert committed[-1].number == golden.facts["expected"]["mx_frame"]
    assert committed[-1].commit == golden.facts["expected"]["commit_size_pages"]


def test_golden_database_checksum(golden: GoldenWal) -> None:
    log, database, expected = golden.load("wal"), golden.load("db"), golden.facts["expected"]
    size = WalHeader.parse(log).page_size
    pages = {at // size + 1: database[at : at + size] for at in range(0, len(database), size)}
    for frame in _frames(log)[: expected["mx_frame"]]:
        at = wal.frame_offset(frame.number, size) + wal.FRAME_HEADER_SIZE
        pages[frame.pgno] = log[at : at + size]
    sums = [page_checksum(pgno, data) for pgno, data in pages.items() if pgno <= expected["commit_size_pages"]]
    assert format_checksum(database_checksum(sums)) == expected["database_checksum_of_committed_state"]


def test_golden_log_written_again(golden: GoldenWal) -> None:
    log = golden.load("wal")
    header, size = WalHeader.parse(log), WalHeader.parse(log).page_size
    writer, parts = FrameWriter(header), [header.encode()]
    for frame in _frames(log):
        at = wal.frame_offset(frame.number, size)
        assert at == writer.offset
        parts.append(writer.encode([(frame.pgno, log[at + 24 : at + 24 + size])], frame.commit))
    again = b"".join(parts)
    assert again == log[: len(again)]


@pytest.mark.parametrize("big_endian", [False, True])
def test_frames_come_back(big_endian: bool) -> None:
    log = _log(WalHeader(512, 1, 2, big_endian=big_endian))
    frames = _frames(log)
    assert [(frame.pgno, frame.commit) for frame in frames] == [(1, 0), (2, 0), (3, 3), (4, 0), (5, 5)]
    assert frames == wal.parse_frames(log[32:], WalHeader.parse(log))
    for frame, (_, data) in zip(frames, PAGES, strict=True):
        at = wal.frame_offset(frame.number, 512) + 24
        assert log[at : at + 512] == data


def test_scan_goes_on_from_a_frame() -> None:
    log = _log()
    frames = _frames(log)
    header = WalHeader.parse(log)
    later = wal.scan(lambda at, size: log[at : at + size], header, 4, frames[2].checksum)
    assert list(later) == frames[3:]
    assert list(wal.scan(lambda at, size: log[at : at + size], header, 4, frames[1].checksum)) == []


def test_scan_reads_no_further_than_told() -> None:
    log = _log()
    for count in range(6):
        end = wal.frame_offset(count + 1, 512)
        assert len(_frames(log, max_bytes=end)) == count
        assert len(_frames(log, max_bytes=end + 535)) == count


def test_scan_of_a_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    path.write_bytes(_log())
    fd = os.open(path, os.O_RDONLY)
    try:
        assert list(wal.scan(fd, HEADER)) == _frames(_log())
    finally:
        os.close(fd)


def test_scan_crosses_its_batches() -> None:
    header = WalHeader(65536, 1, 2)
    log = header.encode() + FrameWriter(header).encode([(n, bytes([n]) * 65536) for n in range(1, 41)], 40)
    assert [frame.pgno for frame in _frames(log)] == list(range(1, 41))


@given(st.integers(32, 32 + 5 * 536 - 1), st.integers(0, 7))
def test_scan_stops_at_damage(at: int, bit: int) -> None:
    log = bytearray(_log())
    log[at] ^= 1 << bit
    assert len(_frames(bytes(log))) == (at - 32) // 536


def test_scan_stops_at_a_cut() -> None:
    log = _log()
    for length in range(32, len(log) + 1):
        assert len(_frames(log[:length])) == wal.frames_in(length, 512) == (length - 32) // 536


def test_scan_stops_at_page_zero_and_other_salts() -> None:
    writer = FrameWriter(HEADER)
    assert _frames(HEADER.encode() + writer.encode([(0, bytes(512))], 1)) == []
    other = WalHeader(512, HEADER.salt1 + 1, HEADER.salt2)
    stale = FrameWriter(other, start=HEADER.checksum).encode(PAGES, 5)
    assert _frames(HEADER.encode() + stale) == []


def test_writer_wants_whole_pages() -> None:
    with pytest.raises(ValueError, match="page 1 has 511 bytes, not 512"):
        FrameWriter(HEADER).encode([(1, bytes(511))])


def test_commit_is_in_the_last_frame_only() -> None:
    writer = FrameWriter(HEADER)
    log = HEADER.encode() + writer.encode(PAGES[:2]) + writer.encode([]) + writer.encode(PAGES[2:3], 9)
    assert [frame.commit for frame in _frames(log)] == [0, 0, 9]
    assert writer.next_frame == 4


@pytest.mark.parametrize(
    ("at", "data", "why"),
    [
        (0, b"\0", "at byte 0: .* magic"),
        (4, b"\1", "at byte 4: unknown version"),
        (8, b"\1", "at byte 8: .* is no page size"),
        (12, b"\1", "at byte 24: checksum"),
        (16, b"?", "at byte 24: checksum"),
        (31, b"\x00", "at byte 24: checksum"),
    ],
)
def test_header_is_checked(at: int, data: bytes, why: str) -> None:
    header = bytearray(HEADER.encode())
    header[at : at + 1] = data
    with pytest.raises(FormatError, match=why):
        WalHeader.parse(bytes(header))


def test_short_header() -> None:
    with pytest.raises(FormatError, match="has 31 bytes, not 32"):
        WalHeader.parse(HEADER.encode()[:31])


@given(st.binary(max_size=64))
def test_noise_is_no_header(data: bytes) -> None:
    with pytest.raises(FormatError):
        WalHeader.parse(data)


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("big_endian", [False, True])
def test_sqlite_reads_our_log(tmp_path: Path, page_size: int, big_endian: bool) -> None:
    """Take a log apart, write it anew with either byte order, and let SQLite recover from it."""
    connection = sqlite3.connect(tmp_path / "a", isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE t (x)")
    for n in range(20):
        connection.execute("INSERT INTO t VALUES (hex(zeroblob(?)))", (n * 100,))
    log = (tmp_path / "a-wal").read_bytes()
    header = WalHeader(page_size, 1, 2, big_endian=big_endian)
    writer, parts = FrameWriter(header), [header.encode()]
    for frame in _frames(log):
        at = wal.frame_offset(frame.number, page_size) + 24
        parts.append(writer.encode([(frame.pgno, log[at : at + page_size])], frame.commit))
    (tmp_path / "b-wal").write_bytes(b"".join(parts))
    shutil.copy(tmp_path / "a", tmp_path / "b")
    copy = sqlite3.connect(tmp_path / "b")
    assert copy.execute("SELECT count(*), sum(length(x)) FROM t").fetchone() == (20, 38000)
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.close()
    connection.close()
