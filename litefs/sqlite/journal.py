"""The rollback journal: the original pages of a transaction, which undo it when played back.

A journal is a chain of segments. Each opens with a header that is padded to the sector size and says how many
records follow; a record is a page number, the page as it was, and a checksum. The name of a super-journal may
close the file. Reading stops where SQLite's playback stops, which is not an error: what follows was never synced,
so its pages were never overwritten in the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from litefs.errors import FormatError
from litefs.sqlite.data import Data, Reader, is_page_size, read_at
from litefs.sqlite.locks import PENDING_BYTE

MAGIC = bytes.fromhex("d9d505f920a163d7")
HEADER_SIZE = 28
"""Bytes of a header that mean something; a finalised journal of journal_mode=PERSIST has zeros there."""

ALL_RECORDS = 0xFFFFFFFF
"""Record count of a header whose segment reaches to the end of the file."""

_HEADER = Struct(">8sIIIII")
_U32 = Struct(">I")
_CHECKSUM_STEP = 200
_MAX_SECTOR_SIZE = 65536
_MIN_SECTOR_SIZE = 32
_SUPER_TAIL = Struct(">II8s")
_MAX_SUPER_NAME = 4096


@dataclass(frozen=True, slots=True)
class JournalHeader:
    """Opens a segment. ``original_pages`` is the database size before the transaction; sizes are in bytes."""

    records: int
    nonce: int
    original_pages: int
    sector_size: int
    page_size: int

    @property
    def record_size(self) -> int:
        """Bytes of one record."""
        return self.page_size + 8

    def encode(self) -> bytes:
        """Return the header padded to the sector size."""
        fields = (self.records, self.nonce, self.original_pages, self.sector_size, self.page_size)
        return _HEADER.pack(MAGIC, *fields).ljust(self.sector_size, b"\0")

    @classmethod
    def parse(cls, data: Data) -> JournalHeader:
        """Read the first 28 bytes of a segment; raises `FormatError`."""
        if len(data) < HEADER_SIZE:
            raise FormatError(f"the journal header has {len(data)} bytes, not {HEADER_SIZE}")
        magic, records, nonce, original, sector_size, page_size = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise FormatError("journal header: at byte 0: not a journal's magic number")
        if not _MIN_SECTOR_SIZE <= sector_size <= _MAX_SECTOR_SIZE or sector_size & (sector_size - 1):
            raise FormatError(f"journal header: at byte 20: {sector_size} is no sector size")
        if not is_page_size(page_size):
            raise FormatError(f"journal header: at byte 24: {page_size} is no page size")
        return cls(records, nonce, original, sector_size, page_size)


def is_finalised(first_bytes: Data) -> bool:
    """Whether a journal that starts like this holds no transaction: it is empty, or its header was zeroed.

    SQLite's own test for a hot journal is the first byte; the locks it also asks about are not looked at here.
    """
    return len(first_bytes) == 0 or first_bytes[0] == 0


def record_checksum(data: Data, nonce: int) -> int:
    """Return a record's checksum: the nonce plus every 200th byte, counted from the end of the page."""
    return (nonce + sum(data[len(data) - _CHECKSUM_STEP : 0 : -_CHECKSUM_STEP])) & 0xFFFFFFFF


class Journal:
    """A journal as another process left it, that is, a hot one.

    Args:
        reader: the journal file.
        size: its size in bytes.

    Raises `FormatError` where the first header is not valid: SQLite plays such a journal back as an empty one.
    """

    def __init__(self, reader: Reader, size: int) -> None:
        self.header = JournalHeader.parse(read_at(reader, 0, HEADER_SIZE))
        self.size = size
        self._reader = reader
        if self.header.sector_size > size:
            raise FormatError(f"the journal ends inside its header, at byte {size}")

    @property
    def page_size(self) -> int:
        """Page size of the database in bytes."""
        return self.header.page_size

    @property
    def original_pages(self) -> int:
        """Database size in pages before the transaction: playing back cuts the file to it."""
        return self.header.original_pages

    def super_journal(self) -> str:
        """Return the path of the super-journal, empty when there is none.

        When that file is gone, the transaction was committed and the journal must be deleted, not played back.
        """
        return super_journal_name(self._reader, self.size)

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """Yield ``(pgno, original bytes)`` of the pages to restore, in the journal's order.

        Pages beyond the original size are left out, as they are cut off anyway. Raises `OSError` only.
        """
        offset = 0
        while (header := self._header_at(offset)) is not None:
            offset += header.sector_size
            played = 0
            for pgno, data in self._records(offset, header):
                played += 1
                if pgno <= self.original_pages:
                    yield pgno, data
            if played < header.records:
                return
            end = offset + played * header.record_size
            offset = -(-end // header.sector_size) * header.sector_size

    def _header_at(self, offset: int) -> JournalHeader | None:
        """Return the header of the segment at ``offset``, with the first one's sizes, or None at the chain's end."""
        first = self.header
        if offset + first.sector_size > self.size:
            return None
        data = read_at(self._reader, offset, HEADER_SIZE)
        if len(data) < HEADER_SIZE or data[:8] != MAGIC:
            return None
        _, records, nonce, original, _, _ = _HEADER.unpack(data)
        if records == ALL_RECORDS:
            records = (self.size - offset - first.sector_size) // first.record_size
        return JournalHeader(records, nonce, original, first.sector_size, first.page_size)

    def _records(self, offset: int, header: JournalHeader) -> Iterator[tuple[int, bytes]]:
        """Yield the records of a segment, fewer than its header says where playback would stop."""
        lock_page = PENDING_BYTE // header.page_size + 1
        for at in range(offset, offset + header.records * header.record_size, header.record_size):
            record = read_at(self._reader, at, header.record_size)
            if len(record) < header.record_size:
                return
            (pgno,) = _U32.unpack_from(record)
            if pgno in (0, lock_page):
                return
            data = record[4:-4]
            # SQLite skips pages beyond the original size without looking at their checksum.
            if pgno <= self.original_pages and record_checksum(data, header.nonce) != _U32.unpack(record[-4:])[0]:
                return
            yield pgno, data


def super_journal_name(reader: Reader, size: int) -> str:
    """Return the name of the super-journal at the end of a journal of ``size`` bytes, empty when there is none."""
    if size < _SUPER_TAIL.size:
        return ""
    tail = read_at(reader, size - _SUPER_TAIL.size, _SUPER_TAIL.size)
    if len(tail) < _SUPER_TAIL.size:
        return ""
    length, checksum, magic = _SUPER_TAIL.unpack(tail)
    if magic != MAGIC or not 0 < length <= min(_MAX_SUPER_NAME, size - _SUPER_TAIL.size):
        return ""
    name = read_at(reader, size - _SUPER_TAIL.size - length, length)
    # The bytes are summed as C's signed char.
    if sum(byte - ((byte & 0x80) << 1) for byte in name) & 0xFFFFFFFF != checksum:
        return ""
    return name.decode("utf-8", "surrogateescape")
