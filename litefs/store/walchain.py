"""Looking into a WAL file: which frames SQLite would take for committed, which pages they hold and where. Blocking."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from litefs.sqlite.wal import FRAME_HEADER_SIZE, FrameWriter, WalHeader, frame_offset, frame_size, parse_frames

BATCH = 1 << 20  # bytes read at once

Sum = tuple[int, int]


@dataclass(slots=True)
class Chain:
    """Frames after some commit frame, verified."""

    end: int  # number of the last commit frame
    offsets: dict[int, int]  # page -> offset of its newest content in the WAL
    commit: int  # pages of the database afterwards
    checksum: Sum  # running, after frame `end`


class ChainBroken(Exception):
    """There is no commit frame whose chain of checksums is whole."""


def read_chain(fd: int, header: WalHeader, start: int, running: Sum, limit: int | None = None) -> Chain:
    """The transactions after frame `start` (0 for all), up to frame `limit` or as far as the chain goes.

    Args:
        running: checksum after frame `start`.

    Raises:
        ChainBroken: there is none.
    """
    size = frame_size(header.page_size)
    batch = max(1, BATCH // size)
    chain = Chain(0, {}, 0, running)
    pending: dict[int, int] = {}
    first = start
    while limit is None or first < limit:
        count = batch if limit is None else min(batch, limit - first)
        data = os.pread(fd, count * size, frame_offset(first + 1, header.page_size))
        frames = parse_frames(data, header, first + 1, running)
        for frame in frames:
            pending[frame.pgno] = frame_offset(frame.number, header.page_size) + FRAME_HEADER_SIZE
            if frame.commit:
                chain.end, chain.commit, chain.checksum = frame.number, frame.commit, frame.checksum
                chain.offsets.update(pending)
                pending.clear()
        first += len(frames)
        if len(frames) < count:
            break
        running = frames[-1].checksum
    if not chain.end:
        raise ChainBroken(f"frame {first + 1} breaks the checksum chain")
    return chain


def read_holed(fd: int, header: WalHeader, start: int, end: int, last: int) -> Chain:
    """One transaction by what its frames say: those of a hole have no salts and checksums, the others must be ours.

    Args:
        last: the frame whose checksum SQLite goes on from.

    Raises:
        ChainBroken: they are not.
    """
    offsets, commit = {}, 0
    for number in range(start + 1, end + 1):
        offset = frame_offset(number, header.page_size)
        head = os.pread(fd, FRAME_HEADER_SIZE, offset)
        if head[8:16] != header.salt and any(head[8:]):
            raise ChainBroken(f"frame {number} is not of this WAL")
        offsets[int.from_bytes(head[:4], "big")] = offset + FRAME_HEADER_SIZE
        commit = int.from_bytes(head[4:8], "big")
    return Chain(end, offsets, commit, checksum_after(fd, header, last))


def close_hole(fd: int, header: WalHeader, start: int, running: Sum, end: int) -> Sum:
    """Give the frames after `start` up to `end` the checksums that make one chain of them; the running one then.

    Args:
        running: checksum after frame `start`.
    """
    writer = FrameWriter(header, start + 1, running)
    for _ in range(start, end):
        offset = writer.offset
        frame = os.pread(fd, frame_size(header.page_size), offset)
        pgno, commit = int.from_bytes(frame[:4], "big"), int.from_bytes(frame[4:8], "big")
        os.pwrite(fd, writer.encode([(pgno, frame[FRAME_HEADER_SIZE:])], commit)[:FRAME_HEADER_SIZE], offset)
    return writer.checksum


def boundary(fd: int, header: WalHeader, frames: int) -> int:
    """Number of the last commit frame among the first `frames`; 0 when there is none."""
    while frames and not _field(fd, header, frames, 4):
        frames -= 1
    return frames


def commit_size(fd: int, header: WalHeader, number: int) -> int:
    """Size in pages that a commit frame gives the database; 0 for any other frame."""
    return _field(fd, header, number, 4)


def checksum_after(fd: int, header: WalHeader, number: int) -> Sum:
    """Running checksum after a frame; of the file header for 0."""
    if number == 0:
        return header.checksum
    return _field(fd, header, number, 16), _field(fd, header, number, 20)


def pages_between(fd: int, header: WalHeader, start: int, end: int) -> set[int]:
    """Pages in the frames after `start` up to `end`."""
    return {_field(fd, header, number, 0) for number in range(start + 1, end + 1)} - {0}


def locate(fd: int, header: WalHeader, end: int, wanted: Collection[int]) -> dict[int, int]:
    """Newest content of pages among the first `end` frames: page -> offset. Pages that are not there are left out."""
    found: dict[int, int] = {}
    for number in range(end, 0, -1):
        if len(found) == len(wanted):
            break
        pgno = _field(fd, header, number, 0)
        if pgno in wanted and pgno not in found:
            found[pgno] = frame_offset(number, header.page_size) + FRAME_HEADER_SIZE
    return found


def _field(fd: int, header: WalHeader, number: int, at: int) -> int:
    return int.from_bytes(os.pread(fd, 4, frame_offset(number, header.page_size) + at), "big")
