"""Journals are made by SQLite in a child process that is killed inside a transaction."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litefs.errors import FormatError
from litefs.sqlite.journal import (
    ALL_RECORDS,
    MAGIC,
    Journal,
    JournalHeader,
    is_finalised,
    record_checksum,
    super_journal_name,
)
from litefs.sqlite.locks import PENDING_BYTE

CREATE = """
    PRAGMA page_size = {page_size};
    CREATE TABLE t (id INTEGER PRIMARY KEY, x);
    WITH n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows})
    INSERT INTO t SELECT n, hex(randomblob({page_size} / 4)) FROM n;
"""
KILLED = """
    import os, signal, sqlite3, sys
    connection = sqlite3.connect(sys.argv[1], uri=True, isolation_level=None)
    connection.executescript(sys.argv[2])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _child(code: str, *args: str) -> int:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code), *args], check=False).returncode


def _database(path: Path, page_size: int, rows: int = 60) -> bytes:
    connection = sqlite3.connect(path)
    connection.executescript(CREATE.format(page_size=page_size, rows=rows))
    connection.close()
    return path.read_bytes()


def _crash(path: Path, script: str, options: str = "") -> Journal:
    """Run a script on a database, die before its transaction ends, and open the journal it leaves."""
    assert _child(KILLED, f"file:{path}?{options}", script) == -9
    return _open(path)


def _open(path: Path) -> Journal:
    data = Path(f"{path}-journal").read_bytes()
    return Journal(lambda offset, size: data[offset : offset + size], len(data))


def _played_back(path: Path, journal: Journal) -> bytes:
    """The database after the journal was played back by us."""
    size = journal.page_size
    data = bytearray(path.read_bytes()[: journal.original_pages * size].ljust(journal.original_pages * size, b"\0"))
    for pgno, page in journal.pages():
        data[(pgno - 1) * size : pgno * size] = page
    return bytes(data)


def _rolled_back(path: Path) -> bytes:
    """The database after SQLite rolled it back; works on copies."""
    copy = path.with_name("copy")
    for suffix in ("", "-journal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    connection = sqlite3.connect(copy)
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    connection.close()
    assert not Path(f"{copy}-journal").exists()
    return copy.read_bytes()


SPILL = """
    PRAGMA cache_size = 5;
    PRAGMA synchronous = {synchronous};
    BEGIN;
    UPDATE t SET x = hex(randomblob(length(x) / 2 + 10));
    INSERT INTO t SELECT id + 1000, x FROM t;
    DELETE FROM t WHERE id % 2 = 0;
"""


@pytest.mark.parametrize("page_size", [512 << n for n in range(8)])
@pytest.mark.parametrize("synchronous", ["off", "full"])
def test_hot_journals(tmp_path: Path, page_size: int, synchronous: str) -> None:
    path = tmp_path / "db"
    before = _database(path, page_size)
    journal = _crash(path, SPILL.format(synchronous=synchronous))
    assert path.read_bytes() != before
    assert journal.page_size == page_size
    assert journal.original_pages * page_size == len(before)
    assert journal.super_journal() == ""
    assert _played_back(path, journal) == before == _rolled_back(path)


def test_free_pages_are_not_in_the_journal(tmp_path: Path) -> None:
    """SQLite does not save the bytes of unused pages: a rollback leaves there what the transaction wrote."""
    path = tmp_path / "db"
    _database(path, 1024)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DELETE FROM t WHERE id > 10")
    connection.close()
    before = path.read_bytes()
    journal = _crash(path, SPILL.format(synchronous="full"))
    after = _played_back(path, journal)
    assert after == _rolled_back(path)
    assert after != before


@pytest.mark.parametrize("options", ["psow=0", "psow=1"])
def test_several_segments(tmp_path: Path, options: str) -> None:
    """With synchronous=full every spill closes a segment; without powersafe overwrite, sectors are larger."""
    path = tmp_path / "db"
    before = _database(path, 1024, rows=400)
    journal = _crash(path, SPILL.format(synchronous="full"), options)
    assert journal.header.sector_size == (4096 if options == "psow=0" else 512)
    assert Path(f"{path}-journal").read_bytes().count(MAGIC) > 2
    assert 0 < journal.header.records < sum(1 for _ in journal.pages())
    assert _played_back(path, journal) == before == _rolled_back(path)


@pytest.mark.parametrize("mode", ["persist", "truncate"])
def test_finalised_journals(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "db"
    _database(path, 1024)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("UPDATE t SET x = 1")
    connection.close()
    data = Path(f"{path}-journal").read_bytes()
    assert is_finalised(data[:28])
    with pytest.raises(FormatError):
        _open(path)


def test_old_records_behind_a_new_transaction_are_not_played_back(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _database(path, 1024)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = persist")
    connection.execute("UPDATE t SET x = zeroblob(3000)")
    connection.close()
    before = path.read_bytes()
    script = (
        "PRAGMA journal_mode = persist; PRAGMA cache_size = 2; BEGIN; UPDATE t SET x = randomblob(700) WHERE id < 9"
    )
    journal = _crash(path, script)
    assert not is_finalised(MAGIC)
    assert _played_back(path, journal) == before == _rolled_back(path)


@pytest.mark.parametrize("name", ["db", "dätabäse"])
def test_super_journals(tmp_path: Path, name: str) -> None:
    """The process dies when the second database outgrows its limit, after both journals named the super-journal."""
    folder = tmp_path / name
    folder.mkdir()
    path, other = folder / "a", folder / "b"
    before = [_database(path, 1024), _database(other, 1024)]
    code = """
        import resource, signal, sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("ATTACH ? AS b", (sys.argv[2],))
        connection.executescript("PRAGMA cache_size = 100000; PRAGMA b.cache_size = 100000; BEGIN")
        connection.execute("UPDATE t SET x = 'changed'")
        connection.execute("UPDATE b.t SET x = randomblob(100000)")
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        connection.execute("COMMIT")
    """
    assert _child(code, str(path), str(other)) == -25
    for database, expected in zip((path, other), before, strict=True):
        journal = _open(database)
        assert database.read_bytes() != expected
        assert Path(journal.super_journal()).exists()
        assert journal.super_journal().startswith(f"{path}-mj")
        assert _played_back(database, journal) == expected


def _journal(records: list[tuple[int, bytes]], *, count: int | None = None, original: int = 9, nonce: int = 5) -> bytes:
    header = JournalHeader(len(records) if count is None else count, nonce, original, 512, 512)
    return header.encode() + b"".join(
        pgno.to_bytes(4, "big") + data + record_checksum(data, nonce).to_bytes(4, "big") for pgno, data in records
    )


def _read(data: bytes) -> list[tuple[int, bytes]]:
    return list(Journal(lambda offset, size: data[offset : offset + size], len(data)).pages())


PAGES = [(n, random.Random(n).randbytes(512)) for n in range(1, 6)]


def test_record_checksum_adds_every_200th_byte_from_the_end() -> None:
    data = bytes(i % 251 for i in range(1024))
    assert record_checksum(data, 0xFFFFFFFF) == (data[824] + data[624] + data[424] + data[224] + data[24] - 1)
    assert record_checksum(bytes([1]) * 400, 0) == 1


def test_a_count_of_all_reaches_to_the_end() -> None:
    assert _read(_journal(PAGES, count=ALL_RECORDS)) == PAGES
    assert _read(_journal(PAGES, count=ALL_RECORDS) + b"tail") == PAGES


def test_a_count_of_none_is_what_an_unsynced_journal_says() -> None:
    assert _read(_journal(PAGES, count=0)) == []


def test_pages_beyond_the_original_size_are_left_out() -> None:
    assert _read(_journal(PAGES, original=3)) == PAGES[:3]
    # SQLite does not look at their checksums.
    damaged = bytearray(_journal(PAGES, original=3))
    damaged[-1] ^= 0xFF
    damaged[512 + 3 * 520 + 519] ^= 0xFF
    assert _read(bytes(damaged)) == PAGES[:3]


def test_playback_stops_at_a_bad_record() -> None:
    whole = _journal(PAGES)
    for at in (4 + 112, 4 + 312, 4 + 512):
        damaged = bytearray(whole)
        damaged[512 + 2 * 520 + at] ^= 0xFF
        assert _read(bytes(damaged)) == PAGES[:2]
    for length in range(512, len(whole)):
        assert _read(whole[:length]) == PAGES[: (length - 512) // 520]


@pytest.mark.parametrize("pgno", [0, PENDING_BYTE // 512 + 1])
def test_playback_stops_at_no_page(pgno: int) -> None:
    assert _read(_journal([PAGES[0], (pgno, bytes(512)), PAGES[1]], original=1 << 31)) == PAGES[:1]


def test_segments_follow_at_sector_boundaries() -> None:
    first, second = _journal(PAGES[:1], nonce=1), _journal(PAGES[1:], nonce=2)
    padded = first.ljust(3 * 512, b"\0")
    assert _read(padded + second) == PAGES
    assert _read(first + second) == PAGES[:1]
    # After a segment that is cut short there is nothing to look for.
    assert _read(_journal(PAGES[:1], count=2).ljust(3 * 512, b"\0") + second) == PAGES[:1]


def test_hostile_counts_end_with_the_file() -> None:
    assert _read(_journal(PAGES, count=ALL_RECORDS - 1)) == PAGES


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ((0, b"\0"), "at byte 0: not a journal"),
        ((20, bytes(4)), "at byte 20: 0 is no sector size"),
        ((20, b"\0\0\2\1"), "at byte 20: 513 is no sector size"),
        ((20, b"\x80\0\0\0"), "at byte 20: 2147483648 is no sector size"),
        ((24, bytes(4)), "at byte 24: 0 is no page size"),
        ((24, b"\0\2\0\0"), "at byte 24: 131072 is no page size"),
    ],
)
def test_header_is_checked(change: tuple[int, bytes], why: str) -> None:
    data = bytearray(_journal(PAGES))
    data[change[0] : change[0] + len(change[1])] = change[1]
    with pytest.raises(FormatError, match=why):
        _read(bytes(data))


def test_short_files_are_no_journals() -> None:
    whole = _journal(PAGES)
    for length in range(512):
        with pytest.raises(FormatError):
            _read(whole[:length])
    assert is_finalised(b"")
    assert is_finalised(bytes(28))


@given(st.binary(max_size=3000))
def test_noise_after_a_header_does_no_harm(noise: bytes) -> None:
    header = _journal([], count=ALL_RECORDS)
    assert len(_read(header + noise)) <= len(noise) // 520
    _super_name(noise)


def _super_name(data: bytes) -> str:
    return super_journal_name(lambda offset, size: data[offset : offset + size], len(data))


def _super(name: bytes) -> bytes:
    checksum = sum(byte - 256 if byte > 127 else byte for byte in name) & 0xFFFFFFFF
    return name + len(name).to_bytes(4, "big") + checksum.to_bytes(4, "big") + MAGIC


@pytest.mark.parametrize("name", ["/data/db-mj0123456789", "/dätä/db-mj0", "/" + "x" * 500])
def test_super_journal_names(name: str) -> None:
    data = _journal(PAGES) + (PENDING_BYTE // 512 + 1).to_bytes(4, "big") + _super(os.fsencode(name))
    journal = Journal(lambda offset, size: data[offset : offset + size], len(data))
    assert journal.super_journal() == name
    assert list(journal.pages()) == PAGES


def test_damaged_super_journal_names_are_none() -> None:
    good = b"xxxx" + _super(b"/data/db-mj0")
    for at in range(4, len(good)):
        data = bytearray(good)
        data[at] ^= 1
        assert _super_name(bytes(data)) == ""
    assert _super_name(good) == "/data/db-mj0"
    for length in range(16):
        assert _super_name(good[-16:][:length]) == ""
    assert _super_name(b"\xff\xff\xff\xff" + bytes(4) + MAGIC) == ""
