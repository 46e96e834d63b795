"""LTX checksums: CRC-64 "GO-ISO" with the top bit set, so that zero can mean "none".

A page's checksum covers its number and its bytes; a database's is the XOR of its pages' without the lock page. So
a commit updates the database checksum from the pages it changed alone:
``CHECKSUM_FLAG | (database ^ old_page ^ new_page)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from operator import xor
from struct import Struct
from typing import TypeAlias

from fastcrc import crc64 as _crc64

Data: TypeAlias = bytes | bytearray | memoryview

CHECKSUM_FLAG = 1 << 63
"""Set in every checksum that was computed."""

EMPTY = CHECKSUM_FLAG
"""Checksum of an empty or a deleted database."""

PENDING_BYTE = 0x40000000
"""Offset of SQLite's lock bytes; the page that holds them is never written by SQLite nor stored in LTX."""

crc64: Callable[..., int] = _crc64.go_iso
"""``crc64(data, initial=None)``: feed the result back as ``initial`` to go on. Releases the GIL for large data."""

_pack_pgno = Struct(">I").pack


def lock_page(page_size: int) -> int:
    """Return the number of the page that holds SQLite's lock bytes."""
    return PENDING_BYTE // page_size + 1


def page_checksum(pgno: int, data: Data) -> int:
    """Return the checksum of one page."""
    return CHECKSUM_FLAG | crc64(data, crc64(_pack_pgno(pgno)))


def page_checksums(first_pgno: int, buffer: Data, page_size: int) -> list[int]:
    """Return the checksums of consecutive whole pages.

    Nothing is skipped: the caller leaves out the lock page. Raises `ValueError` if ``buffer`` ends inside a page.
    """
    view = memoryview(buffer)
    count, rest = divmod(len(view), page_size)
    if rest:
        raise ValueError(f"{len(view)} bytes are not whole pages of {page_size} bytes")
    crc, pack, flag = crc64, _pack_pgno, CHECKSUM_FLAG
    return [
        flag | crc(view[at : at + page_size], crc(pack(pgno)))
        for pgno, at in enumerate(range(0, count * page_size, page_size), first_pgno)
    ]


def record_checksums(records: Data, record_size: int) -> list[int]:
    """Return the page checksums of whole records.

    A record of the page block is what a page's checksum covers: the number, then the bytes.
    """
    view, crc, flag = memoryview(records), crc64, CHECKSUM_FLAG
    return [flag | crc(view[at : at + record_size]) for at in range(0, len(view), record_size)]


def database_checksum(page_checksums: Iterable[int]) -> int:
    """Return the checksum of a database whose pages (without the lock page) have these checksums."""
    return CHECKSUM_FLAG | reduce(xor, page_checksums, 0)
