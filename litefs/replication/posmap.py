"""The position map: what a replica tells the primary it holds (body of ``POST /stream``, LiteFS wire format).

``u32 count``, then per database ``u32 name length, name, u64 TXID, u64 checksum``; sorted by name.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from litefs.errors import StreamError
from litefs.ltx import Pos
from litefs.replication.frames import MAX_NAME, decode_name, encode_name

MAX_BODY = 16 << 20
"""Longest map that is read, in bytes: 60,000 databases with the longest names, 300,000 with usual ones."""

INLINE = 64 << 10
"""Bytes up to which a map is decoded in the trio thread: 2 ms."""

_U32 = struct.Struct(">I")
_POS = struct.Struct(">QQ")
_SMALLEST_ENTRY = 4 + 1 + 16


def encode(positions: Mapping[str, Pos]) -> bytes:
    """The request body for ``positions``."""
    pieces = [_U32.pack(len(positions))]
    for name in sorted(positions):
        raw = encode_name(name)
        pieces += (_U32.pack(len(raw)), raw, _POS.pack(*positions[name]))
    return b"".join(pieces)


def decode(body: bytes) -> dict[str, Pos]:
    """The positions in a request body.

    Raises:
        StreamError: the body is cut short, too long, names a database twice, or what cannot be a file.
    """
    if len(body) < 4:
        raise StreamError("position map: EOF")
    (count,) = _U32.unpack_from(body)
    if count * _SMALLEST_ENTRY > len(body) - 4:
        raise StreamError(f"position map: EOF, {count} entries do not fit into {len(body)} bytes")
    positions: dict[str, Pos] = {}
    at = 4
    for number in range(count):
        name, pos, at = _entry(body, at, number)
        if name in positions:
            raise StreamError(f'position map: "{name}" appears twice')
        positions[name] = pos
    if at != len(body):
        raise StreamError(f"position map: {len(body) - at} bytes too many")
    return positions


def _entry(body: bytes, at: int, number: int) -> tuple[str, Pos, int]:
    if len(body) - at < 4:
        raise StreamError(f"position map: EOF in entry {number}")
    (length,) = _U32.unpack_from(body, at)
    if not 0 < length <= MAX_NAME:
        raise StreamError(f"position map: entry {number} has a name of {length} bytes, must have 1 to {MAX_NAME}")
    start, end = at + 4, at + 4 + length
    if len(body) - end < _POS.size:
        raise StreamError(f"position map: EOF in entry {number}")
    raw = body[start:end]
    if b"/" in raw or b"\0" in raw:
        raise StreamError(f"position map: entry {number} names {decode_name(raw)!r}, which cannot be a database")
    return decode_name(raw), Pos(*_POS.unpack_from(body, end)), end + _POS.size
