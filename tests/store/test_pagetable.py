from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litefs.ltx import CHECKSUM_FLAG, EMPTY, Pos, lock_page
from litefs.store.pagetable import PageTable, Stamp, save, xor_of

FLAG = CHECKSUM_FLAG
STAMP = Stamp(4096, 1300, Pos(7, FLAG | 5))


def filled(count: int) -> PageTable:
    table = PageTable()
    table.update((pgno, FLAG | pgno * 0x9E3779B97F4A7C15 % FLAG) for pgno in range(1, count + 1))
    return table


def test_empty() -> None:
    table = PageTable()
    assert (table.get(1), table.get(10**9)) == (0, 0)
    assert table.checksum(4096, 0) == EMPTY
    assert table.tail(0) == []


@pytest.mark.parametrize("count", [1, 511, 512, 513, 5000])
def test_checksum_is_the_xor_of_the_pages(count: int) -> None:
    table = filled(count)
    assert table.checksum(4096, count) == FLAG | xor_of(table.get(pgno) for pgno in range(1, count + 1)) & ~FLAG


def test_truncate_tells_what_went() -> None:
    table = filled(1000)
    before = table.checksum(4096, 1000)
    assert before ^ table.truncate(400) == table.checksum(4096, 400) == table.checksum(4096, 1000)
    assert table.tail(400) == []
    assert table.get(401) == 0
    assert table.truncate(400) == 0


def test_tail() -> None:
    assert filled(5).tail(3) == [(4, filled(5).get(4)), (5, filled(5).get(5))]


def test_the_lock_page_does_not_count() -> None:
    table, skip = PageTable(), lock_page(65536)
    table.set(skip, FLAG | 77)
    table.set(1, FLAG | 3)
    assert table.checksum(65536, skip) == FLAG | 3
    assert table.checksum(65536, skip - 1) == FLAG | 3


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 2**63 - 1))))
def test_like_a_dictionary(entries: list[tuple[int, int]]) -> None:
    table = PageTable()
    table.update((pgno, FLAG | value) for pgno, value in entries)
    model = {pgno: FLAG | value for pgno, value in entries}
    assert all(table.get(pgno) == value for pgno, value in model.items())
    assert table.checksum(4096, 3000) == FLAG | xor_of(model.values()) & ~FLAG


def test_saved_and_loaded(tmp_path: Path) -> None:
    path, table = tmp_path / "checksums", filled(1300)
    save(path, STAMP, table.take_changes(1300, whole=True))
    loaded = PageTable.load(path)
    assert loaded is not None
    assert loaded[1] == STAMP
    assert loaded[0].tail(0) == table.tail(0)


def test_only_changed_blocks_are_saved(tmp_path: Path) -> None:
    path, table = tmp_path / "checksums", filled(1300)
    save(path, STAMP, table.take_changes(1300, whole=True))
    assert table.take_changes(1300) == []
    table.set(600, FLAG | 1)
    table.set(1301, FLAG | 2)
    blocks = table.take_changes(1301)
    assert len(blocks) == 2
    save(path, STAMP._replace(commit=1301), blocks)
    loaded = PageTable.load(path)
    assert loaded is not None
    assert loaded[0].tail(0) == table.tail(0)


def test_pages_cut_off_and_grown_again_are_saved(tmp_path: Path) -> None:
    path, table = tmp_path / "checksums", filled(1300)
    save(path, STAMP, table.take_changes(1300, whole=True))
    table.truncate(100)
    table.set(1200, FLAG | 9)
    save(path, STAMP._replace(commit=1200), table.take_changes(1200))
    loaded = PageTable.load(path)
    assert loaded is not None
    assert loaded[0].tail(0) == table.tail(0)


def test_what_grew_beyond_the_stamp_is_saved_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "checksums"
    table = filled(2000)
    save(path, STAMP._replace(commit=500), table.take_changes(500, whole=True))
    table.set(400, FLAG | 1)
    save(path, STAMP._replace(commit=500), table.take_changes(500))
    save(path, STAMP._replace(commit=2000), table.take_changes(2000))
    found = PageTable.load(path)
    assert found is not None
    assert list(found[0]) == list(table)


@pytest.mark.parametrize(
    "data", [b"", b"LFSPGCK1", bytes(4096), b"LFSPGCK1" + bytes(5000), b"LFSPGCK1" + b"\xff" * 5000]
)
def test_files_that_are_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "checksums"
    assert PageTable.load(path) is None
    path.write_bytes(data)
    loaded = PageTable.load(path)
    assert loaded is None or loaded[1] == Stamp(0, 0, Pos(0, 0))


def test_cut_file(tmp_path: Path) -> None:
    path, table = tmp_path / "checksums", filled(1300)
    save(path, STAMP, table.take_changes(1300, whole=True))
    os.truncate(path, 4096 + 8 * 1299)
    assert PageTable.load(path) is None
    os.truncate(path, 4096 + 8 * 1298 + 3)
    assert PageTable.load(path) is None
