"""The write-ahead log: header, frames, their checksums, and a writer that continues a log.

Frames are numbered from 1 as in the wal-index. All integers are big-endian; only the checksum's words follow the
byte order that the magic number names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from litefs.errors import FormatError
from litefs.sqlite.data import Data, Reader, is_page_size, read_at
from litefs.sqlite.walsum import Sum, checksum, page_summer

__all__ = [
    "FRAME_HEADER_SIZE",
    "WAL_HEADER_SIZE",
    "Frame",
    "FrameWriter",
    "WalHeader",
    "checksum",
    "frame_offset",
    "frame_size",
    "frames_in",
    "parse_frames",
    "scan",
]

WAL_HEADER_SIZE = 32
FRAME_HEADER_SIZE = 24
MAGIC = 0x377F0682
"""Magic number of a log with little-endian checksums; the lowest bit set means big-endian."""

VERSION = 3007000

_MASK = 0xFFFFFFFF
_SCAN_SIZE = 1 << 20
_HEADER = Struct(">IIIIIIII")
_FRAME = Struct(">IIIIII")
_PAIRS = {True: Struct(">II"), False: Struct("<II")}


@dataclass(frozen=True, slots=True)
class WalHeader:
    """The 32 bytes that open a log. A checkpoint that restarts the log writes new salts."""

    page_size: int
    salt1: int
    salt2: int
    checkpoint_seq: int = 0
    big_endian: bool = False

    @property
    def checksum(self) -> Sum:
        """The header's checksum, from which that of the first frame goes on."""
        return checksum(self._fields(), 0, 0, self.big_endian)

    @property
    def salt(self) -> bytes:
        """Both salts as the file and the wal-index have them."""
        return _PAIRS[True].pack(self.salt1, self.salt2)

    def encode(self) -> bytes:
        """Return the 32 bytes."""
        return self._fields() + _PAIRS[True].pack(*self.checksum)

    def _fields(self) -> bytes:
        magic = MAGIC | self.big_endian
        return _HEADER.pack(magic, VERSION, self.page_size, self.checkpoint_seq, self.salt1, self.salt2, 0, 0)[:24]

    @classmethod
    def parse(cls, data: Data) -> WalHeader:
        """Read the first 32 bytes of a log and check them; raises `FormatError`."""
        if len(data) < WAL_HEADER_SIZE:
            raise FormatError(f"the WAL header has {len(data)} bytes, not {WAL_HEADER_SIZE}")
        magic, version, page_size, sequence, salt1, salt2, s0, s1 = _HEADER.unpack_from(data)
        if magic & ~1 != MAGIC:
            raise FormatError(f"WAL header: at byte 0: {magic:#010x} is not a WAL's magic number")
        if version != VERSION:
            raise FormatError(f"WAL header: at byte 4: unknown version {version}")
        if not is_page_size(page_size):
            raise FormatError(f"WAL header: at byte 8: {page_size} is no page size")
        header = cls(page_size, salt1, salt2, sequence, bool(magic & 1))
        if header.checksum != (s0, s1):
            raise FormatError(f"WAL header: at byte 24: checksum is {s0:08x}{s1:08x}, the contents have another")
        return header


class Frame(NamedTuple):
    """One frame of a log: a page as some transaction left it.

    ``number`` counts from 1. ``commit`` is the database size in pages for the last frame of a transaction, else 0.
    """

    number: int
    pgno: int
    commit: int
    checksum: Sum


def frame_size(page_size: int) -> int:
    """Return the bytes a frame takes in the log."""
    return FRAME_HEADER_SIZE + page_size


def frame_offset(number: int, page_size: int) -> int:
    """Return where frame ``number`` (from 1) starts in the log."""
    return WAL_HEADER_SIZE + (number - 1) * (FRAME_HEADER_SIZE + page_size)


def frames_in(size: int, page_size: int) -> int:
    """Return how many whole frames a log of ``size`` bytes has room for."""
    return max(0, size - WAL_HEADER_SIZE) // (FRAME_HEADER_SIZE + page_size)


def parse_frames(buffer: Data, header: WalHeader, first: int = 1, start: Sum | None = None) -> list[Frame]:
    """Return the valid frames at the start of ``buffer``.

    A frame is valid while it is whole, names a page, has the header's salts, and its checksum continues the one
    before. The data of the n-th is ``buffer[n * frame_size(page_size) + 24:][:page_size]``.

    Args:
        buffer: the log's bytes from frame ``first`` on.
        header: the log's header.
        first: number of the first frame.
        start: checksum of the frame before; None for the header's, which is right for frame 1 only.
    """
    page_size, step = header.page_size, FRAME_HEADER_SIZE + header.page_size
    s0, s1 = header.checksum if start is None else start
    salt1, salt2 = header.salt1, header.salt2
    pair, add_page = _PAIRS[header.big_endian], page_summer(page_size, header.big_endian)
    view = memoryview(buffer)
    frames: list[Frame] = []
    for number, at in enumerate(range(0, len(view) // step * step, step), first):
        pgno, commit, frame_salt1, frame_salt2, want0, want1 = _FRAME.unpack_from(view, at)
        if pgno == 0 or frame_salt1 != salt1 or frame_salt2 != salt2:
            break
        a, b = pair.unpack_from(view, at)
        s0 = (s0 + s1 + a) & _MASK
        s1 = (s1 + s0 + b) & _MASK
        s0, s1 = add_page(view[at + FRAME_HEADER_SIZE : at + step], s0, s1)
        if s0 != want0 or s1 != want1:
            break
        frames.append(Frame(number, pgno, commit, (s0, s1)))
    return frames


def scan(
    reader: Reader,
    header: WalHeader,
    first: int = 1,
    start: Sum | None = None,
    max_bytes: int | None = None,
) -> Iterator[Frame]:
    """Yield the valid frames of a log from frame ``first`` on, stopping at the first that is not.

    Args:
        reader: the log.
        header: its header.
        first: number of the first frame.
        start: checksum of the frame before; None for the header's.
        max_bytes: read no further than so many bytes from the start of the log; None for all of it.
    """
    step = frame_size(header.page_size)
    batch = max(1, _SCAN_SIZE // step)
    while True:
        offset = frame_offset(first, header.page_size)
        count = batch if max_bytes is None else min(batch, (max_bytes - offset) // step)
        if count <= 0:
            return
        frames = parse_frames(read_at(reader, offset, count * step), header, first, start)
        yield from frames
        if len(frames) < count:
            return
        first, start = frames[-1].number + 1, frames[-1].checksum


class FrameWriter:
    """Makes the bytes of frames that continue a log.

    Args:
        header: the log's header.
        next_frame: number of the first frame to make.
        start: checksum of the frame before it; None for the header's, which is right for frame 1 only.
    """

    def __init__(self, header: WalHeader, next_frame: int = 1, start: Sum | None = None) -> None:
        self.header = header
        self.next_frame = next_frame
        self.checksum: Sum = header.checksum if start is None else start

    @property
    def offset(self) -> int:
        """Where in the log the next frames belong."""
        return frame_offset(self.next_frame, self.header.page_size)

    def encode(self, pages: Sequence[tuple[int, Data]], commit: int = 0) -> bytes:
        """Return the frames of ``pages``; the last one carries ``commit``.

        ``commit`` is the database size in pages where the transaction ends, 0 while it goes on. Write the bytes at
        the `offset` from before the call. Raises `ValueError` for a page of another size.
        """
        page_size = self.header.page_size
        pair, add_page = _PAIRS[self.header.big_endian], page_summer(page_size, self.header.big_endian)
        s0, s1 = self.checksum
        salt1, salt2, last = self.header.salt1, self.header.salt2, len(pages) - 1
        parts: list[Data] = []
        for index, (pgno, data) in enumerate(pages):
            if len(data) != page_size:
                raise ValueError(f"page {pgno} has {len(data)} bytes, not {page_size}")
            size = commit if index == last else 0
            a, b = pair.unpack(_PAIRS[True].pack(pgno, size))
            s0 = (s0 + s1 + a) & _MASK
            s1 = (s1 + s0 + b) & _MASK
            s0, s1 = add_page(data, s0, s1)
            parts.append(_FRAME.pack(pgno, size, salt1, salt2, s0, s1))
            parts.append(data)
        self.checksum = s0, s1
        self.next_frame += len(pages)
        return b"".join(parts)
