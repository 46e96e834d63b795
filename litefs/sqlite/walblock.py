"""One block of the wal-index: page numbers of consecutive frames, and a hash table from page number to frame.

Entries are numbered from 1 within their block. The table has two slots for each entry; a page starts at
``pgno * 383`` and takes the next free slot, so all its frames lie on one run of used slots. Runs get long where a
few pages fill the log, hence they are searched by C functions and not slot by slot.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple, Protocol

from litefs.errors import FormatError

BLOCK_SIZE = 32768
BLOCK_FRAMES = 4096
FIRST_BLOCK_FRAMES = 4062
HASH_SLOTS = 8192
HASH_OFFSET = BLOCK_SIZE - 2 * HASH_SLOTS
FIRST_PAGES_OFFSET = 136
"""Block 0 starts with the header and the checkpoint's state, so it has room for fewer frames."""

_HASH_PRIME = 383
_FREE = b"\0\0"
_ENTRY = Struct("=H")


class Index(Protocol):
    """The bytes of a wal-index."""

    def read(self, offset: int, length: int, /) -> bytes:
        """Return bytes; what lies beyond the end may be cut off."""

    def write(self, offset: int, data: bytes, /) -> None:
        """Store bytes, growing the index where it is too short."""


class Block(NamedTuple):
    """Where one block's parts are; ``zero`` is the frame before its first."""

    offset: int
    pages_offset: int
    zero: int
    capacity: int

    @classmethod
    def of_frame(cls, frame: int) -> Block:
        """Return the block that holds a frame (numbered from 1)."""
        number = (frame - 1 + BLOCK_FRAMES - FIRST_BLOCK_FRAMES) // BLOCK_FRAMES
        offset = number * BLOCK_SIZE
        if number == 0:
            return cls(0, FIRST_PAGES_OFFSET, 0, FIRST_BLOCK_FRAMES)
        return cls(offset, offset, FIRST_BLOCK_FRAMES + (number - 1) * BLOCK_FRAMES, BLOCK_FRAMES)

    @property
    def last_frame(self) -> int:
        """The last frame that has room here."""
        return self.zero + self.capacity

    @property
    def hash_offset(self) -> int:
        """Where the hash table is."""
        return self.offset + HASH_OFFSET

    def pages(self, index: Index, first: int, last: int) -> array[int]:
        """Return the page numbers of the entries ``first`` to ``last``; raises `FormatError`."""
        length = 4 * (last - first + 1)
        data = index.read(self.pages_offset + 4 * (first - 1), length)
        if len(data) != length:
            raise FormatError(f"the wal-index ends before frame {self.zero + last}")
        return array("I", data)

    def append(self, index: Index, first: int, pgnos: Sequence[int]) -> None:
        """Set the entries from ``first`` on, dropping what was there; raises `FormatError`."""
        if first == 1:
            self._start(index, pgnos)
            return
        self.truncate(index, first - 1)
        slots = self._slots(index)
        changed = [_insert(slots, pgno, entry) for entry, pgno in enumerate(pgnos, first)]
        index.write(self.pages_offset + 4 * (first - 1), array("I", pgnos).tobytes())
        # One write for all of them: a live index is reached by system calls on a FUSE file, 50 us each.
        begin, end = 2 * min(changed), 2 * max(changed) + 2
        index.write(self.hash_offset + begin, bytes(slots[begin:end]))

    def _start(self, index: Index, pgnos: Sequence[int]) -> None:
        """Write the whole block: what an earlier use of it left would mislead readers of this one."""
        slots = bytearray(2 * HASH_SLOTS)
        for entry, pgno in enumerate(pgnos, 1):
            _insert(slots, pgno, entry)
        pages = array("I", pgnos).tobytes().ljust(4 * self.capacity, b"\0")
        index.write(self.pages_offset, pages + bytes(slots))

    def truncate(self, index: Index, last: int) -> None:
        """Drop the entries after ``last``; raises `FormatError`."""
        # Entries are contiguous: the next one tells whether there are any.
        if last >= self.capacity or not any(index.read(self.pages_offset + 4 * last, 4)):
            return
        slots = array("H", bytes(self._slots(index)))
        kept = array("H", [entry if entry <= last else 0 for entry in slots])
        index.write(self.hash_offset, kept.tobytes())
        index.write(self.pages_offset + 4 * last, bytes(4 * (self.capacity - last)))

    def lookup(self, index: Index, pgno: int, mx_frame: int) -> int:
        """Return the newest frame of a page up to ``mx_frame``, 0 when there is none; raises `FormatError`."""
        pages = self.pages(index, 1, min(mx_frame - self.zero, self.capacity))
        newest = 0
        for entry in _run(self._slots(index), pgno):
            if newest < entry <= len(pages) and pages[entry - 1] == pgno:
                newest = entry
        return self.zero + newest if newest else 0

    def _slots(self, index: Index) -> bytearray:
        data = index.read(self.hash_offset, 2 * HASH_SLOTS)
        if len(data) != 2 * HASH_SLOTS:
            raise FormatError(f"the wal-index ends inside the hash table of frame {self.zero + 1}")
        return bytearray(data)


def _hash(pgno: int) -> int:
    return pgno * _HASH_PRIME & (HASH_SLOTS - 1)


def _insert(slots: bytearray, pgno: int, entry: int) -> int:
    """Enter a page into a hash table; returns the slot."""
    slot = _free_slot(slots, _hash(pgno))
    if slot < 0:
        raise FormatError(f"the wal-index has no room for entry {entry}: its hash table is damaged")
    _ENTRY.pack_into(slots, 2 * slot, entry)
    return slot


def _run(slots: bytearray, pgno: int) -> array[int]:
    """Return the entries of a page's run of used slots."""
    begin = _hash(pgno)
    end = _free_slot(slots, begin)
    if end >= begin:
        return array("H", bytes(slots[2 * begin : 2 * end]))
    # Wrapped around, or no slot is free at all.
    return array("H", bytes(slots[2 * begin :] + slots[: 2 * max(end, 0)]))


def _free_slot(slots: bytearray, start: int) -> int:
    """Return the first free slot from ``start`` on, going around; -1 when there is none."""
    slot = _find_free(slots, start)
    return slot if slot >= 0 else _find_free(slots, 0)


def _find_free(slots: bytearray, start: int) -> int:
    at = slots.find(_FREE, 2 * start)
    while at % 2 and at > 0:
        # Two zeros of two neighbours.
        at = slots.find(_FREE, at + 1)
    return at // 2
