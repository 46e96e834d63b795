"""A SQLite file as a database's next transaction. Blocking."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import reduce
from operator import xor
from typing import BinaryIO

from litefs import ltx
from litefs.http import database_file
from litefs.ltx import CHECKSUM_FLAG, FLAG_LZ4, Header, Pos, Trailer
from litefs.sqlite.header import HEADER_SIZE, DatabaseHeader

BATCH = 1 << 20  # bytes


def as_transaction(source: int, target: BinaryIO, after: Pos, timestamp: int) -> tuple[Header, Trailer]:
    """Write an LTX file whose one transaction makes a database out of any other.

    Args:
        source: file descriptor of the SQLite file.
        after: where the database stands, (0, 0) for a new one.
        timestamp: ms since the epoch.

    Raises:
        FormatError: the source is no SQLite database, or ends too early.
    """
    size = database_file.check(source)
    page_size = database_header(source).page_size
    txid = after.txid + 1
    head = Header(page_size, size // page_size, txid, txid, FLAG_LZ4, timestamp, after.checksum if after.txid else 0)
    encoder = ltx.Encoder(target, head)
    for first, data in _pages(source, page_size, size):
        encoder.write_raw_pages(first, data)
    return head, encoder.finish(_checksum(source, page_size, size))


def database_header(source: int) -> DatabaseHeader:
    """What the file's first page says. Raises FormatError."""
    return DatabaseHeader.parse(os.pread(source, HEADER_SIZE, 0))


def _pages(source: int, page_size: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Runs of whole pages, each with the number of its first one."""
    step = max(BATCH, page_size)
    for at in range(0, size, step):
        yield at // page_size + 1, os.pread(source, min(step, size - at), at)


def _checksum(source: int, page_size: int, size: int) -> int:
    skip = ltx.lock_page(page_size)
    total = 0
    for first, data in _pages(source, page_size, size):
        checksums = enumerate(ltx.page_checksums(first, data, page_size), first)
        total = reduce(xor, (checksum for pgno, checksum in checksums if pgno != skip), total)
    return CHECKSUM_FLAG | total
