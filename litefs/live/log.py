"""Writing one transaction to a live write-ahead log, as SQLite's own writer does.

Everything here needs WAL_WRITE held on the ``-shm`` file. Frames and index entries beyond the header's last frame are
nobody's: readers ignore them and the next writer replaces them, so the transaction exists from the moment the header
is written and not before. That is why a process killed anywhere in between leaves the old state.
"""

from __future__ import annotations

import os
import secrets
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from struct import Struct
from typing import TYPE_CHECKING

from litefs.errors import FormatError
from litefs.live.files import write_all
from litefs.sqlite.locks import WAL_CKPT, WAL_READ1, WAL_READERS, try_lock, unlock
from litefs.sqlite.wal import VERSION, WAL_HEADER_SIZE, FrameWriter, WalHeader, frame_size
from litefs.sqlite.walindex import (
    CHECKPOINT_INFO,
    HEADER_SIZE,
    READ_MARK_NOT_USED,
    CheckpointInfo,
    WalIndexHeader,
    append_frames,
    read_checkpoint_info,
    write_header,
)
from litefs.sqlite.walsum import checksum

if TYPE_CHECKING:
    from litefs.live.shm import SharedMemory

# One write request of a mount carries 1 MiB at most; larger writes save nothing more.
_WRITE_SIZE = 1 << 20
_CACHE_PAGE = 4096  # bytes of a page in the kernel's cache: a multiple on machines with bigger ones costs nothing
_BIG_ENDIAN = sys.byteorder == "big"
_HEADER = Struct("=IIIBBHIIII8s")
_SUM = Struct("=II")


def read_header(index: SharedMemory) -> WalIndexHeader | None:
    """Return the wal-index header, or None where SQLite would run recovery if this persists under WAL_WRITE.

    Unlike the format module's reader this takes the header of a log that was found empty by recovery, which names no
    page size: its ``page_size`` is 0.
    """
    data = index.read(0, 2 * HEADER_SIZE)
    first = data[:HEADER_SIZE]
    if not first or first != data[HEADER_SIZE:]:
        return None
    version, _, change, ready, big, size, mx_frame, n_page, f0, f1, salt = _HEADER.unpack_from(first)
    if not ready or version != VERSION or checksum(first[:40], 0, 0, _BIG_ENDIAN) != _SUM.unpack_from(first, 40):
        return None
    page_size = (size & 0xFE00) | ((size & 1) << 16)
    return WalIndexHeader(page_size, mx_frame, n_page, (f0, f1), salt, change, bool(big))


def try_restart(index: SharedMemory, shm_fd: int, header: WalIndexHeader) -> WalIndexHeader:
    """Start the log over if all of it is in the database file and no reader uses it; returns the header to go on with.

    This keeps the log from growing forever where transactions arrive steadily. WAL_CKPT is taken as well, which
    SQLite does not: a checkpointer that read the header before the restart would otherwise copy the wrong frames.
    """
    if header.mx_frame == 0 or read_checkpoint_info(index).backfill != header.mx_frame:
        return header
    if not try_lock(shm_fd, WAL_CKPT, exclusive=True):
        return header
    try:
        if not try_lock(shm_fd, WAL_READ1, WAL_READERS - 1, exclusive=True):
            return header
        try:
            return reset(index, header)
        finally:
            unlock(shm_fd, WAL_READ1, WAL_READERS - 1)
    finally:
        unlock(shm_fd, WAL_CKPT)


def reset(index: SharedMemory, header: WalIndexHeader) -> WalIndexHeader:
    """Make the log empty for everybody. Needs WAL_CKPT and the read locks 1 to 4 as well, all exclusive.

    The new salts make the header differ from every one that a connection may remember.
    """
    salt1 = (int.from_bytes(header.salt[:4], "big") + 1) & 0xFFFFFFFF
    header = replace(header, mx_frame=0, salt=salt1.to_bytes(4, "big") + secrets.token_bytes(4))
    write_header(index, header)
    info = CheckpointInfo(0, (0, 0, *[READ_MARK_NOT_USED] * (WAL_READERS - 2))).encode()
    # Two writes: the bytes in the middle are those of the locks.
    index.write(CHECKPOINT_INFO, info[:24])
    index.write(CHECKPOINT_INFO + 32, info[32:36])
    return header


@dataclass(slots=True)
class Tail:
    """What the last transaction from here left in the page of the kernel's cache where the log ends."""

    salt: bytes = b""
    end: int = -1  # offset in the log
    data: bytes = b""  # from the start of that page up to `end`


class WalTransaction:
    """One transaction on its way into the log.

    Args:
        index: the wal-index.
        fd: the log, open for writing.
        header: the wal-index header as it is now.
        page_size: of the database, in bytes.
        tail: kept from one transaction to the next.
    """

    def __init__(self, index: SharedMemory, fd: int, header: WalIndexHeader, page_size: int, tail: Tail) -> None:
        self._tail = tail
        self._index = index
        self._fd = fd
        self._header = header
        self._pgnos = array("I")
        self._prefix = b""
        if header.mx_frame:
            self._writer = _continue(header, page_size)
        else:
            log = _new_log(fd, page_size)
            self._writer = FrameWriter(log)
            self._prefix = log.encode()

    def write(self, pages: Iterator[tuple[int, bytes]], commit: int) -> None:
        """Write the pages as frames and commit them. Raises `ValueError` if there are none, `OSError`."""
        batch = max(1, _WRITE_SIZE // frame_size(self._writer.header.page_size))
        pending: list[tuple[int, bytes]] = []
        for page in pages:
            if len(pending) == batch:
                self._append(pending, 0)
                pending = []
            pending.append(page)
        if not pending:
            raise ValueError("a WAL transaction needs at least one page")
        self._append(pending, commit)
        self._commit(commit)

    def _append(self, pages: list[tuple[int, bytes]], commit: int) -> None:
        offset = self._writer.offset - len(self._prefix)
        data = self._prefix + self._writer.encode(pages, commit)
        self._prefix = b""
        data, start = self._before(offset) + data, self._aligned(offset)
        end = start + len(data)
        write_all(self._fd, data + bytes(-end % _CACHE_PAGE), start)
        rest = min(end % _CACHE_PAGE, len(data))
        self._tail.salt, self._tail.end = self._writer.header.salt, end
        self._tail.data = data[len(data) - rest :]
        self._pgnos.extend(pgno for pgno, _ in pages)

    def _before(self, offset: int) -> bytes:
        """The bytes of the log between `_aligned(offset)` and `offset`."""
        tail, start = self._tail, self._aligned(offset)
        if (tail.salt, tail.end, len(tail.data)) == (self._writer.header.salt, offset, offset - start):
            return tail.data
        return os.pread(self._fd, offset - start, start)

    @staticmethod
    def _aligned(offset: int) -> int:
        """Where to begin, so that whole pages of the kernel's cache are written.

        On the mount each page that is written in part costs a request of its own, until somebody has read it; so the
        end of the frame before is written again, as it is, and zeros behind the last one, which no recovery takes for
        a frame. Never the log's header: writing that means to start the log over.
        """
        start = offset - offset % _CACHE_PAGE
        return start if start > 0 else offset

    def _commit(self, commit: int) -> None:
        header, log = self._header, self._writer.header
        append_frames(self._index, header.mx_frame + 1, self._pgnos)
        write_header(
            self._index,
            WalIndexHeader(
                page_size=log.page_size,
                mx_frame=header.mx_frame + len(self._pgnos),
                n_page=commit,
                frame_checksum=self._writer.checksum,
                salt=log.salt,
                change=header.change + 1,
                big_endian=log.big_endian,
            ),
        )


def _continue(header: WalIndexHeader, page_size: int) -> FrameWriter:
    salt1, salt2 = (int.from_bytes(header.salt[at : at + 4], "big") for at in (0, 4))
    log = WalHeader(page_size, salt1, salt2, big_endian=header.big_endian)
    return FrameWriter(log, header.mx_frame + 1, header.frame_checksum)


def _new_log(fd: int, page_size: int) -> WalHeader:
    """The header to start the log over with: salts that no frame in the file has."""
    try:
        old = WalHeader.parse(os.pread(fd, WAL_HEADER_SIZE, 0))
        salt1, sequence = (old.salt1 + 1) & 0xFFFFFFFF, (old.checkpoint_seq + 1) & 0xFFFFFFFF
    except FormatError:
        salt1, sequence = secrets.randbits(32), 0
    return WalHeader(page_size, salt1, secrets.randbits(32), sequence, _BIG_ENDIAN)
