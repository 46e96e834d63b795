"""The wal-index (``-shm`` file): which frame of the log holds the newest version of a page.

It starts with two copies of the header and the checkpoint's state; the frames' pages follow in blocks (`walblock`).
All numbers are in the machine's byte order. The index is reached through `Index`, so that a live one can be changed
by pread and pwrite.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from struct import Struct
from typing import NamedTuple

from litefs.errors import FormatError
from litefs.sqlite.data import Data, is_page_size
from litefs.sqlite.wal import VERSION, Frame, WalHeader
from litefs.sqlite.walblock import BLOCK_FRAMES, BLOCK_SIZE, FIRST_BLOCK_FRAMES, HASH_OFFSET, HASH_SLOTS, Block, Index
from litefs.sqlite.walsum import Sum, checksum

__all__ = [
    "BACKFILL_ATTEMPTED_OFFSET",
    "BACKFILL_OFFSET",
    "BLOCK_FRAMES",
    "BLOCK_SIZE",
    "CHECKPOINT_INFO",
    "FIRST_BLOCK_FRAMES",
    "HASH_OFFSET",
    "HASH_SLOTS",
    "HEADER_OFFSETS",
    "HEADER_SIZE",
    "LOCKS_OFFSET",
    "READ_MARKS",
    "READ_MARKS_OFFSET",
    "READ_MARK_NOT_USED",
    "CheckpointInfo",
    "Index",
    "MemoryIndex",
    "WalIndexHeader",
    "append_frames",
    "build",
    "latest_frames",
    "lookup",
    "page_numbers",
    "read_checkpoint_info",
    "read_header",
    "truncate",
    "write_header",
]

HEADER_SIZE = 48
HEADER_OFFSETS = (0, HEADER_SIZE)
"""The two copies. A writer writes the second one first, a reader reads the first one first."""

CHECKPOINT_INFO = 96
BACKFILL_OFFSET = CHECKPOINT_INFO
READ_MARKS_OFFSET = 100
READ_MARKS = 5
LOCKS_OFFSET = 120
BACKFILL_ATTEMPTED_OFFSET = 128
READ_MARK_NOT_USED = 0xFFFFFFFF

_NATIVE_BIG = array("H", [1]).tobytes() == b"\x00\x01"
_HEADER = Struct("=IIIBBHIIII8s")
_SUM = Struct("=II")
_INFO = Struct("=I5I8sII")


class MemoryIndex:
    """A wal-index in memory, in whole blocks."""

    def __init__(self, data: Data = b"") -> None:
        self.data = bytearray(data)

    def read(self, offset: int, length: int, /) -> bytes:
        """Bytes of it; fewer at its end."""
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes, /) -> None:
        """Put bytes there; it grows by whole blocks."""
        end = offset + len(data)
        if end > len(self.data):
            self.data += bytes(-(-end // BLOCK_SIZE) * BLOCK_SIZE - len(self.data))
        self.data[offset:end] = data


@dataclass(frozen=True, slots=True)
class WalIndexHeader:
    """What the wal-index says of the log's committed frames.

    ``change`` counts transactions. ``mx_frame`` is the last committed frame, ``n_page`` the database size after it,
    ``frame_checksum`` that frame's. ``salt`` holds the log's salts as they are in its header. Recovery of a log
    without a header leaves ``page_size`` 0.
    """

    page_size: int
    mx_frame: int
    n_page: int
    frame_checksum: Sum
    salt: bytes
    change: int = 0
    big_endian: bool = False

    def encode(self) -> bytes:
        """Return one copy, 48 bytes."""
        size = (self.page_size & 0xFF00) | (self.page_size >> 16)
        fields = _HEADER.pack(
            VERSION,
            0,
            self.change & 0xFFFFFFFF,
            1,
            self.big_endian,
            size,
            self.mx_frame,
            self.n_page,
            *self.frame_checksum,
            self.salt,
        )
        return fields + _SUM.pack(*checksum(fields, 0, 0, _NATIVE_BIG))

    @classmethod
    def parse(cls, data: Data) -> WalIndexHeader:
        """Read one copy and check it; raises `FormatError`, also for an index that nobody initialised."""
        if len(data) < HEADER_SIZE:
            raise FormatError(f"the wal-index header has {len(data)} bytes, not {HEADER_SIZE}")
        version, _, change, is_init, big, size, mx_frame, n_page, f0, f1, salt = _HEADER.unpack_from(data)
        if not is_init:
            raise FormatError("the wal-index is not initialised")
        if version != VERSION:
            raise FormatError(f"wal-index: at byte 0: unknown version {version}")
        page_size = (size & 0xFE00) | ((size & 1) << 16)
        if not is_page_size(page_size) and (page_size or mx_frame):
            raise FormatError(f"wal-index: at byte 14: {size} is no page size")
        if checksum(memoryview(data)[:40], 0, 0, _NATIVE_BIG) != _SUM.unpack_from(data, 40):
            raise FormatError("wal-index: at byte 40: the header's checksum does not match")
        return cls(page_size, mx_frame, n_page, (f0, f1), salt, change, bool(big))


class CheckpointInfo(NamedTuple):
    """How far the log was copied back, and which frames readers still need.

    ``read_marks[0]`` is always 0 (readers of the database alone); unused ones are `READ_MARK_NOT_USED`.
    """

    backfill: int = 0
    read_marks: tuple[int, ...] = (0, *([READ_MARK_NOT_USED] * (READ_MARKS - 1)))
    backfill_attempted: int = 0

    @classmethod
    def parse(cls, data: Data) -> CheckpointInfo:
        """Read the 40 bytes at `CHECKPOINT_INFO`; raises `FormatError` when there are fewer."""
        if len(data) < _INFO.size:
            raise FormatError(f"the wal-index has {len(data)} bytes of checkpoint state, not {_INFO.size}")
        backfill, *marks, _, attempted, _ = _INFO.unpack_from(data)
        return cls(backfill, tuple(marks), attempted)

    def encode(self) -> bytes:
        """Return the 40 bytes; those of the locks, which are never written, are zero."""
        return _INFO.pack(self.backfill, *self.read_marks, bytes(8), self.backfill_attempted, 0)


def read_header(index: Index) -> WalIndexHeader | None:
    """Return the header, or None while a writer is changing it (the copies differ); raises `FormatError`."""
    data = index.read(0, 2 * HEADER_SIZE)
    if data[:HEADER_SIZE] != data[HEADER_SIZE:]:
        return None
    return WalIndexHeader.parse(data)


def write_header(index: Index, header: WalIndexHeader) -> None:
    """Store both copies, the second one first, as readers expect; they see the new frames from then on."""
    data = header.encode()
    index.write(HEADER_OFFSETS[1], data)
    index.write(HEADER_OFFSETS[0], data)


def read_checkpoint_info(index: Index) -> CheckpointInfo:
    """Return the checkpoint's state; raises `FormatError`."""
    return CheckpointInfo.parse(index.read(CHECKPOINT_INFO, _INFO.size))


def append_frames(index: Index, first: int, pgnos: Sequence[int]) -> None:
    """Enter the frames ``first``, ``first + 1``, ... for these pages.

    Frames from ``first`` on that an unfinished transaction left are forgotten first. Readers ignore the entries
    until the header covers them, so this needs WAL_WRITE only.
    """
    at = 0
    while at < len(pgnos):
        block = Block.of_frame(first + at)
        end = at + block.last_frame - (first + at) + 1
        block.append(index, first + at - block.zero, pgnos[at:end])
        at = end


def truncate(index: Index, mx_frame: int) -> None:
    """Forget the frames after ``mx_frame`` in its block, as a writer does before it reuses their numbers."""
    if mx_frame > 0:
        block = Block.of_frame(mx_frame)
        block.truncate(index, mx_frame - block.zero)


def lookup(index: Index, pgno: int, mx_frame: int, min_frame: int = 1) -> int:
    """Return the newest frame of a page from ``min_frame`` to ``mx_frame``, 0 when there is none."""
    while mx_frame >= max(1, min_frame):
        block = Block.of_frame(mx_frame)
        found = block.lookup(index, pgno, mx_frame)
        if found:
            return found if found >= min_frame else 0
        mx_frame = block.zero
    return 0


def page_numbers(index: Index, first: int, last: int) -> Iterator[int]:
    """Yield the page numbers of the frames ``first`` to ``last``; raises `FormatError` where the index ends."""
    while first <= last:
        block = Block.of_frame(first)
        end = min(last, block.last_frame)
        yield from block.pages(index, first - block.zero, end - block.zero)
        first = end + 1


def latest_frames(index: Index, mx_frame: int, min_frame: int = 1) -> dict[int, int]:
    """Return ``{page number: its newest frame}`` for the frames ``min_frame`` to ``mx_frame``."""
    return dict(zip(page_numbers(index, min_frame, mx_frame), count(min_frame), strict=False))


def build(wal: WalHeader, frames: Iterable[Frame], change: int = 0) -> bytes:
    """Return the wal-index of a log as SQLite's recovery makes it: nothing is copied back.

    Frames after the last commit are left out.
    """
    committed, pgnos, pending = None, list[int](), list[int]()
    for frame in frames:
        pending.append(frame.pgno)
        if frame.commit:
            committed = frame
            pgnos += pending
            pending = []
    header = WalIndexHeader(wal.page_size, 0, 0, wal.checksum, wal.salt, change, wal.big_endian)
    marks = [0, *([READ_MARK_NOT_USED] * (READ_MARKS - 1))]
    if committed is not None:
        header = replace(header, mx_frame=committed.number, n_page=committed.commit, frame_checksum=committed.checksum)
        marks[1] = committed.number
    index = MemoryIndex(bytes(BLOCK_SIZE))
    append_frames(index, 1, pgnos)
    write_header(index, header)
    index.write(CHECKPOINT_INFO, CheckpointInfo(0, tuple(marks), header.mx_frame).encode())
    return bytes(index.data)
