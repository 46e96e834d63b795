"""The first 100 bytes of a SQLite database."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from litefs.errors import FormatError
from litefs.sqlite.data import Data, is_page_size

MAGIC = b"SQLite format 3\x00"
HEADER_SIZE = 100

_FIELDS = Struct(">16sHBBB3xIIIIIII")
_VERSION_VALID_FOR = Struct(">I")
_WAL_VERSION = 2


@dataclass(frozen=True, slots=True)
class DatabaseHeader:
    """What page 1 says of its database. ``page_count`` is only right while `page_count_valid`."""

    page_size: int
    write_version: int
    read_version: int
    reserved: int
    change_counter: int
    page_count: int
    schema_cookie: int
    version_valid_for: int

    @property
    def is_wal(self) -> bool:
        """Whether the database is in WAL mode."""
        return self.read_version == _WAL_VERSION

    @property
    def page_count_valid(self) -> bool:
        """Whether `page_count` was kept up to date; versions of SQLite before 3.7 did not."""
        return self.page_count > 0 and self.change_counter == self.version_valid_for

    @classmethod
    def parse(cls, data: Data) -> DatabaseHeader:
        """Read the first 100 bytes of page 1; raises `FormatError`."""
        if len(data) < HEADER_SIZE:
            raise FormatError(f"the database header has {len(data)} bytes, not {HEADER_SIZE}")
        magic, size, write, read, reserved, counter, pages, _, _, cookie, _, _ = _FIELDS.unpack_from(data)
        if magic != MAGIC:
            raise FormatError("not a SQLite database: its first 16 bytes are not SQLite's")
        page_size = 65536 if size == 1 else size
        if not is_page_size(page_size):
            raise FormatError(f"the database header names the page size {page_size}")
        (valid_for,) = _VERSION_VALID_FOR.unpack_from(data, 92)
        return cls(page_size, write, read, reserved, counter, pages, cookie, valid_for)
