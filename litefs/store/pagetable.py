"""The checksum of every page of one database, and the file that keeps them across restarts.

The database checksum is the XOR of its pages' checksums, so a transaction of n pages moves it with n look-ups here,
whatever the size of the database. The file holds the table together with the position it is true for. It is brought
up to date now and then: entries first, then the position. A crash between the two leaves entries that are newer than
the stamp, which does no harm, since start-up replays every LTX file after the stamp onto the table anyway. For that
the LTX files up to the new stamp must be durable before `save` is called.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from litefs.ltx import CHECKSUM_FLAG, Pos, lock_page
from litefs.store.syncing import sync_directory

_HEADER = struct.Struct("<8sIIQQ")
_MAGIC = b"LFSPGCK1"
_DATA_OFFSET = 4096  # bytes; entries follow, 8 bytes each, little-endian, page 1 first
_BLOCK = 512  # entries saved together: 4 KiB of the file


class Stamp(NamedTuple):
    """What the saved table is true for."""

    page_size: int  # bytes; 0 = nothing known
    commit: int  # pages
    pos: Pos


class PageTable:
    """Checksums of pages 1..n. A page never set counts as 0, and so does the lock page."""

    __slots__ = ("_dirty", "_entries")

    def __init__(self) -> None:
        self._entries = array("Q")
        self._dirty: set[int] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def copy(self) -> PageTable:
        """Another one with the same entries, of which nothing has to be saved."""
        table = PageTable()
        table._entries = self._entries[:]
        return table

    def get(self, pgno: int) -> int:
        """Checksum of a page; 0 when it has none."""
        return self._entries[pgno - 1] if pgno <= len(self._entries) else 0

    def set(self, pgno: int, checksum: int) -> None:
        """Remember a page's checksum."""
        if pgno > len(self._entries):
            self._grow(pgno)
        self._entries[pgno - 1] = checksum
        self._dirty.add((pgno - 1) // _BLOCK)

    def extend(self, first: int, checksums: Iterable[int]) -> None:
        """Remember the checksums of consecutive pages behind all that are known: quick, and for new tables only."""
        self._entries.frombytes(bytes(8 * (first - 1 - len(self._entries))))
        self._entries.extend(checksums)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(page, checksum) of all known pages, in ascending order."""
        return ((pgno, checksum) for pgno, checksum in enumerate(self._entries, 1) if checksum)

    def reserve(self, commit: int) -> None:
        """Have room for this many pages, and not for twice as many as creeping growth leads to."""
        if commit > len(self._entries):
            self._entries.frombytes(bytes(8 * (commit - len(self._entries))))

    def _grow(self, pgno: int) -> None:
        missing = pgno - len(self._entries)
        # Double rather than creep: growing by one page a commit must not copy the table each time.
        self._entries.frombytes(bytes(8 * max(missing, len(self._entries), _BLOCK)))

    def truncate(self, commit: int) -> int:
        """Forget the pages after `commit`; XOR of what they were (without the flag bit)."""
        tail = self._entries[commit:]
        removed = xor(tail)
        if removed or any(tail):
            self._entries[commit:] = array("Q", bytes(8 * len(tail)))
            self._dirty.update(range(commit // _BLOCK, len(self._entries) // _BLOCK + 1))
        return removed

    def tail(self, commit: int) -> list[tuple[int, int]]:
        """(page, checksum) of the known pages after `commit`."""
        return [(commit + i, value) for i, value in enumerate(self._entries[commit:], 1) if value]

    def checksum(self, page_size: int, commit: int) -> int:
        """Database checksum of pages 1..commit, from the table alone."""
        total = xor(self._entries[:commit])
        if page_size and (skip := lock_page(page_size)) <= commit:
            total ^= self.get(skip) & ~CHECKSUM_FLAG
        return CHECKSUM_FLAG | total

    def update(self, entries: Iterable[tuple[int, int]]) -> None:
        """Set several (page, checksum) entries."""
        for pgno, checksum in entries:
            self.set(pgno, checksum)

    def clear(self) -> None:
        """Forget everything: the database was dropped or replaced."""
        self._entries = array("Q")
        self._dirty.clear()

    # ------------------------------------------------------------------------------------------------ the file

    def take_changes(self, commit: int, *, whole: bool = False) -> list[tuple[int, bytes]]:
        """Blocks of pages 1..commit changed since the last call, as (offset in the file, bytes); or all blocks.

        A copy: the table may move on while it is being written. It may have grown beyond `commit` already: blocks there
        are left for the next call.
        """
        last = (commit + _BLOCK - 1) // _BLOCK
        blocks = range(last) if whole else sorted(block for block in self._dirty if block < last)
        self._dirty = {block for block in self._dirty if block >= last}
        return [(_DATA_OFFSET + block * _BLOCK * 8, self._block_bytes(block)) for block in blocks]

    def _block_bytes(self, block: int) -> bytes:
        chunk = self._entries[block * _BLOCK : (block + 1) * _BLOCK]
        if sys.byteorder == "big":
            chunk.byteswap()
        return chunk.tobytes()

    @classmethod
    def load(cls, path: Path) -> tuple[PageTable, Stamp] | None:
        """The saved table and what it is true for; None when there is none, or none that can be trusted."""
        table = cls()
        try:
            with open(path, "rb") as file:
                magic, page_size, commit, txid, checksum = _HEADER.unpack(file.read(_HEADER.size))
                if magic != _MAGIC or os.fstat(file.fileno()).st_size < _DATA_OFFSET + 8 * commit:
                    return None
                file.seek(_DATA_OFFSET)
                table._entries.frombytes(file.read(8 * commit))
        except (OSError, struct.error, ValueError):
            return None
        if sys.byteorder == "big":
            table._entries.byteswap()
        return table, Stamp(page_size, commit, Pos(txid, checksum))


def save(path: Path, stamp: Stamp, blocks: Iterable[tuple[int, bytes]]) -> None:
    """Write blocks of a table, then the stamp, each made durable before the next. Blocking.

    Raises:
        OSError: the disk refused; the file then still holds a table that start-up can use or reject.
    """
    new = not path.exists()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for offset, data in blocks:
            os.pwrite(fd, data, offset)
        os.fdatasync(fd)
        os.pwrite(fd, _HEADER.pack(_MAGIC, stamp.page_size, stamp.commit, *stamp.pos), 0)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    if new:
        sync_directory(path.parent)


def xor(values: array[int]) -> int:
    """XOR of checksums, without the flag bit."""
    if len(values) < 4096:  # importing numpy is not worth it
        total = 0
        for value in values:
            total ^= value
    else:
        import numpy

        total = int(numpy.bitwise_xor.reduce(numpy.frombuffer(values, dtype=numpy.uint64)))
    return total & ~CHECKSUM_FLAG


def xor_of(values: Iterable[int]) -> int:
    """XOR of any checksums."""
    total = 0
    for value in values:
        total ^= value
    return total
