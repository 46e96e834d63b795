"""What brings a replica's copy of one database from its position to ours: LTX files as they lie, or a snapshot.

A snapshot is due when the replica is ahead of us, stands at our TXID with another checksum, has nothing, or when the
next file is gone or follows another checksum than the replica's: the rules of LiteFS.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from litefs.ltx import HEADER_SIZE, TRAILER_SIZE, Pos
from litefs.replication import frames
from litefs.replication.pipes import PIECE

if TYPE_CHECKING:
    from litefs.store.ltxdir import LTXDir, Range

BATCH = 64
"""Files looked up at once. Thousands of tiny transactions still make full pieces, one batch after the other."""

_IDS = struct.Struct(">4s12xQQ8xQ")
_POST = struct.Struct(">Q")


class Step(Enum):
    """What has to happen next for one database of one replica."""

    NOTHING = "nothing"
    FILES = "files"
    SNAPSHOT = "snapshot"


def next_step(theirs: Pos, ours: Pos) -> Step:
    """What the two positions alone say; the files may still turn FILES into a snapshot."""
    if theirs == ours or ours.txid == 0:
        return Step.NOTHING
    if theirs.txid == 0 or theirs.txid >= ours.txid:
        return Step.SNAPSHOT
    return Step.FILES


def next_files(ltx_dir: LTXDir, after: int, up_to: int) -> list[tuple[Range, Path]]:
    """Up to BATCH files that follow TXID `after` without a gap and end at TXID `up_to` or before."""
    found: list[tuple[Range, Path]] = []
    while after < up_to and len(found) < BATCH:
        path = ltx_dir.single(after + 1)
        if path is not None:
            item = (after + 1, after + 1)
        else:
            chain = ltx_dir.since(after)
            if not chain or chain[0][1] > up_to:
                break
            item = chain[0]
            path = ltx_dir.file(*item)
        found.append((item, path))
        after = item[1]
    return found


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded frames of some files, and where the replica stands once it has them."""

    data: bytes
    count: int  # files
    pos: Pos
    big: tuple[Range, Path] | None = None  # the next file is too big to be read at once
    problem: str | None = None  # why the next file cannot be sent


def read_batch(name: str, files: Sequence[tuple[Range, Path]], pos: Pos, hwm: int) -> Batch:
    """LTX and HWM frames of files that follow `pos`, about PIECE bytes of them. Blocks on the disk."""
    pieces: list[bytes] = []
    size = count = 0
    tail = frames.CHUNKS_END + frames.hwm(hwm, name)
    head = frames.ltx_start(name)
    for item, path in files:
        if size >= PIECE:
            break
        try:
            data = _read_small(path)
        except FileNotFoundError:
            return Batch(b"".join(pieces), count, pos, problem=_gone(item))
        if data is None:
            return Batch(b"".join(pieces), count, pos, big=(item, path))
        after = follows(item, pos, data, data[-TRAILER_SIZE:])
        if isinstance(after, str):
            return Batch(b"".join(pieces), count, pos, problem=after)
        pieces += (head, frames.chunks(data), tail if item[0] > 1 else frames.CHUNKS_END)
        size += len(data)
        count += 1
        pos = after
    return Batch(b"".join(pieces), count, pos)


def follows(item: Range, pos: Pos, start: bytes, end: bytes) -> Pos | str:
    """The position after a file with these first 100 and last 16 bytes, or why it cannot be applied at `pos`."""
    if len(start) < HEADER_SIZE or len(end) < TRAILER_SIZE:
        return f"transaction file for txid {item[0]:016x} is cut short"
    magic, min_txid, max_txid, pre_apply = _IDS.unpack_from(start)
    if magic != b"LTX1" or (min_txid, max_txid) != item:
        return f"transaction file for txid {item[0]:016x} holds something else"
    if pre_apply != pos.checksum:
        return f"transaction file for txid {item[0]:016x} follows another checksum than the replica's"
    return Pos(max_txid, _POST.unpack_from(end)[0])


def _gone(item: Range) -> str:
    return f"transaction file for txid {item[0]:016x} no longer available"


def _read_small(path: Path) -> bytes | None:
    """The file, or None when it has more than PIECE bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, PIECE + 1)
    finally:
        os.close(fd)
    return data if len(data) <= PIECE else None
