"""Reading a SQLite database file to be imported."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from litefs import ltx
from litefs.errors import FormatError
from litefs.ltx import Pos
from litefs.sqlite.header import HEADER_SIZE, DatabaseHeader
from litefs.store.pagetable import PageTable

_BATCH = 1 << 20  # bytes
_CHANGE_COUNTER, _SCHEMA_COOKIE, _VALID_FOR = 24, 40, 92  # offsets in page 1


class Reader:
    """Pages of a database file, with page 1 made new for whoever has the old database open.

    Connections keep their cached pages and schema as long as the change counter and the schema cookie stay the same,
    so both get values that the old database cannot have: derived from its position.

    Args:
        file: the database file; its WAL, if it has one, is not looked at.
        fresh: position of the database that is replaced.

    Attributes:
        table: checksums of the pages that were read.
        head: the database header, made new; known once page 1 was read.

    Raises:
        FormatError: not a whole SQLite database.
    """

    def __init__(self, file: BinaryIO, *, fresh: Pos) -> None:
        self._file = file
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise FormatError("read database header: EOF")
        header = DatabaseHeader.parse(file.read(HEADER_SIZE))
        self.page_size = header.page_size
        if size % self.page_size:
            raise FormatError(f"the database file ends inside a page, at byte {size}")
        self.commit = size // self.page_size
        if header.page_count_valid:
            if header.page_count > self.commit:
                raise FormatError(f"the database should have {header.page_count} pages, the file has {self.commit}")
            self.commit = header.page_count
        self.is_wal = header.is_wal
        self.table = PageTable()
        self.head = b""
        self._stamp = (fresh.checksum ^ fresh.txid) & 0x7FFFFFFF | 1

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Runs of pages: (number of the first, content). The lock page is left out."""
        skip = ltx.lock_page(self.page_size)
        batch = max(1, _BATCH // self.page_size)
        self._file.seek(0)
        self.table = PageTable()
        pgno = 1
        while pgno <= self.commit:
            last = min(pgno + batch - 1, self.commit)
            if pgno < skip <= last:
                last = skip - 1
            elif pgno == skip:
                last = skip
            data = self._file.read((last - pgno + 1) * self.page_size)
            if pgno == 1:
                data = self._renew(data)
                self.head = data[:HEADER_SIZE]
            if pgno != skip:
                self.table.extend(pgno, ltx.page_checksums(pgno, data, self.page_size))
                yield pgno, data
            pgno = last + 1

    def _renew(self, data: bytes) -> bytes:
        page = bytearray(data)
        for offset in (_CHANGE_COUNTER, _SCHEMA_COOKIE, _VALID_FOR):
            struct.pack_into(">I", page, offset, self._stamp)
        struct.pack_into(">I", page, 28, self.commit)
        return bytes(page)


def committed_size(fd: int) -> tuple[int, int] | None:
    """(page size, pages) of a database file, by its header as SQLite reads it; None when it is empty or none."""
    size = os.fstat(fd).st_size
    try:
        head = DatabaseHeader.parse(os.pread(fd, HEADER_SIZE, 0))
    except FormatError:
        return None
    if head.page_count_valid:
        return head.page_size, head.page_count
    return head.page_size, size // head.page_size


def is_complete(fd: int) -> bool:
    """Whether a file is a whole SQLite database, as far as its header and its size tell."""
    found = committed_size(fd)
    if found is None:
        return False
    page_size, commit = found
    size = os.fstat(fd).st_size
    return size % page_size == 0 and 0 < commit <= size // page_size
