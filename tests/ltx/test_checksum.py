from __future__ import annotations

import pytest

from litefs.ltx import CHECKSUM_FLAG, EMPTY, database_checksum, lock_page, page_checksum, page_checksums
from litefs.ltx.checksum import crc64, record_checksums


def _bitwise_crc(data: bytes) -> int:
    """CRC-64 GO-ISO by its definition."""
    crc = (1 << 64) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xD800000000000000 if crc & 1 else 0)
    return crc ^ ((1 << 64) - 1)


def test_crc_is_go_iso() -> None:
    assert crc64(b"123456789") == _bitwise_crc(b"123456789") == 0xB90956C775A41001


def test_crc_goes_on_from_an_earlier_result() -> None:
    assert crc64(b"6789", crc64(b"12345")) == crc64(b"123456789")


def test_page_checksum_covers_number_and_bytes() -> None:
    data = bytes(range(256)) * 2
    assert page_checksum(7, data) == CHECKSUM_FLAG | _bitwise_crc(b"\0\0\0\x07" + data)


def test_page_checksums_of_a_run_of_pages() -> None:
    data = bytes(range(256)) * 6
    expected = [page_checksum(3 + n, data[n * 512 : (n + 1) * 512]) for n in range(3)]
    assert page_checksums(3, data, 512) == expected
    assert page_checksums(3, memoryview(bytearray(data)), 512) == expected
    assert page_checksums(3, b"", 512) == []


def test_page_checksums_want_whole_pages() -> None:
    with pytest.raises(ValueError, match="513 bytes are not whole pages"):
        page_checksums(1, bytes(513), 512)


def test_database_checksum() -> None:
    assert database_checksum([]) == EMPTY
    pages = [page_checksum(1, bytes(512)), page_checksum(2, bytes(512))]
    assert database_checksum(pages) == CHECKSUM_FLAG | (pages[0] ^ pages[1])


def test_record_checksums_agree_with_page_checksums() -> None:
    records = b"\0\0\0\x05" + bytes(512) + b"\0\0\0\x09" + b"x" * 512
    assert record_checksums(records, 516) == [page_checksum(5, bytes(512)), page_checksum(9, b"x" * 512)]


@pytest.mark.parametrize(("page_size", "pgno"), [(512, 2097153), (4096, 262145), (65536, 16385)])
def test_lock_page(page_size: int, pgno: int) -> None:
    assert lock_page(page_size) == pgno
