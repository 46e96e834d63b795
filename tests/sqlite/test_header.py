from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litefs.errors import FormatError
from litefs.sqlite.header import HEADER_SIZE, MAGIC, DatabaseHeader


@pytest.mark.parametrize("page_size", [512 << n for n in range(8)])
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_header_of_a_real_database(tmp_path: Path, page_size: int, mode: str) -> None:
    path = tmp_path / "db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE t (x)")
    (schema_version,) = connection.execute("PRAGMA schema_version").fetchone()
    connection.close()
    data = path.read_bytes()
    header = DatabaseHeader.parse(data[:HEADER_SIZE])
    assert header.page_size == page_size
    assert header.is_wal == (mode == "wal")
    assert header.write_version == header.read_version
    assert header.page_count * page_size == len(data)
    assert header.page_count_valid
    assert header.schema_cookie == schema_version


def test_short_header() -> None:
    with pytest.raises(FormatError, match="has 99 bytes, not 100"):
        DatabaseHeader.parse(MAGIC + bytes(83))


def test_other_files() -> None:
    with pytest.raises(FormatError, match="not a SQLite database"):
        DatabaseHeader.parse(bytes(100))


@given(st.binary(min_size=84, max_size=84))
def test_noise(data: bytes) -> None:
    try:
        header = DatabaseHeader.parse(MAGIC + data)
    except FormatError:
        return
    assert header.page_size in [512 << n for n in range(8)]


@pytest.mark.parametrize("size", [0, 2, 511, 513, 65535])
def test_page_size_is_checked(size: int) -> None:
    with pytest.raises(FormatError, match=f"page size {size}"):
        DatabaseHeader.parse(MAGIC + size.to_bytes(2, "big") + bytes(82))
