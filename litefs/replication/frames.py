"""The frames of a replication stream (LiteFS wire format): a parser that takes bytes cut anywhere, and the encoder.

Every number is big-endian. A frame is a u32 type and a payload; the payload of an LTX frame ends in a *chunk stream*,
repeated ``u16 length + bytes`` with length 0 as its end. The parser hands the chunk stream on piece by piece, so the
size of a snapshot never shows in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from litefs.errors import StreamError
from litefs.ltx import MAX_TIME

MAX_NAME = 255
"""Longest database name in bytes: it names a directory."""

MAX_LEASE_ID = 4096
"""Longest lease id in bytes; Consul's session ids have 36."""

MAX_MEMBERS = 256 << 10
"""Bytes of a message about other nodes."""

MAX_TERM = 1 << 62
"""Highest term; those of a sound clock have 41 bits."""

MAX_CHUNK = 0xFFFF

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_I64 = struct.Struct(">q")
_TYPE_SIZE_LENGTH = struct.Struct(">IQI")
_TYPE_TERM_WHOLE = struct.Struct(">IQI")
_TYPE_TXID_LENGTH = struct.Struct(">IQI")


class FrameType(IntEnum):
    """The u32 that starts a frame."""

    LTX = 1
    READY = 2
    END = 3
    DROP_DB = 4
    HANDOFF = 5
    HWM = 6
    HEARTBEAT = 7
    MEMBERS = 100  # not LiteFS's: for peers that introduced themselves, see litefs.replication.members
    TERM = 101  # for peers that sent theirs, see litefs.cluster.term


class LTXStart(NamedTuple):
    """An LTX file for database ``name`` begins; its bytes follow as LTXData up to LTXEnd."""

    name: str


class LTXData(NamedTuple):
    """A piece of the LTX file. Valid as long as it is referenced."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class LTXEnd:
    """The LTX file is complete."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The receiver has everything that existed when the stream began."""


@dataclass(frozen=True, slots=True)
class End:
    """The sender leaves on purpose."""


class DropDB(NamedTuple):
    """The sender does not know database ``name``. Receivers ignore it."""

    name: str


class Handoff(NamedTuple):
    """The receiver shall take over the lease ``lease_id``."""

    lease_id: str


class HWM(NamedTuple):
    """The backup of database ``name`` holds everything up to ``txid``."""

    txid: int
    name: str


class Heartbeat(NamedTuple):
    """The sender's clock, milliseconds since the epoch."""

    timestamp_ms: int


class Members(NamedTuple):
    """What the sender knows about nodes of the cluster (`litefs.replication.members`)."""

    data: bytes


class Term(NamedTuple):
    """The sender leads under ``term``; ``whole``: the receiver has everything that it had when the stream began."""

    term: int
    whole: bool


Frame = LTXStart | LTXData | LTXEnd | Ready | End | DropDB | Handoff | HWM | Heartbeat | Members | Term

READY = _U32.pack(FrameType.READY)
END = _U32.pack(FrameType.END)
CHUNKS_END = _U16.pack(0)


def encode_name(name: str) -> bytes:
    """A database name as it stands on the wire: Linux file names are bytes, and need not be UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(raw: bytes | memoryview) -> str:
    """The database name that encode_name() made ``raw`` of."""
    return str(raw, "utf-8", "surrogateescape")


def ltx_start(name: str) -> bytes:
    """The head of an LTX frame; follow it with chunks() and CHUNKS_END. The size field is always 0."""
    raw = encode_name(name)
    return _TYPE_SIZE_LENGTH.pack(FrameType.LTX, 0, len(raw)) + raw


def chunks(data: bytes | memoryview) -> bytes:
    """``data`` as a part of a chunk stream, without the end mark."""
    if len(data) <= MAX_CHUNK:
        return b"".join((_U16.pack(len(data)), data)) if len(data) else b""
    view = memoryview(data)
    pieces: list[bytes | memoryview] = []
    for start in range(0, len(view), MAX_CHUNK):
        piece = view[start : start + MAX_CHUNK]
        pieces += (_U16.pack(len(piece)), piece)
    return b"".join(pieces)


def ltx(name: str, data: bytes) -> bytes:
    """A whole LTX frame around one file."""
    return b"".join((ltx_start(name), chunks(data), CHUNKS_END))


def drop_db(name: str) -> bytes:
    """A DropDB frame."""
    return _text_frame(FrameType.DROP_DB, name)


def handoff(lease_id: str) -> bytes:
    """A Handoff frame."""
    return _text_frame(FrameType.HANDOFF, lease_id)


def hwm(txid: int, name: str) -> bytes:
    """An HWM frame."""
    raw = encode_name(name)
    return _TYPE_TXID_LENGTH.pack(FrameType.HWM, txid, len(raw)) + raw


def heartbeat(timestamp_ms: int) -> bytes:
    """A Heartbeat frame; ``timestamp_ms`` counts from the epoch."""
    return _U32.pack(FrameType.HEARTBEAT) + _I64.pack(timestamp_ms)


def members(data: bytes) -> bytes:
    """A Members frame; ``data`` is at most MAX_MEMBERS bytes."""
    return _U32.pack(FrameType.MEMBERS) + _U32.pack(len(data)) + data


def term(number: int, *, whole: bool) -> bytes:
    """A Term frame."""
    return _TYPE_TERM_WHOLE.pack(FrameType.TERM, number, whole)


def _text_frame(kind: FrameType, text: str) -> bytes:
    raw = encode_name(text)
    return _U32.pack(kind) + _U32.pack(len(raw)) + raw


class FrameParser:
    """Turns the bytes of a stream into frames. Does no I/O.

    Holds back at most one incomplete frame head (under 5 KiB, or MAX_MEMBERS), never LTX content. After a StreamError
    the parser is useless: the connection is out of step.
    """

    def __init__(self) -> None:
        self._held = b""
        self._consumed = 0
        self._in_ltx = False
        self._chunk_left = 0

    @property
    def at_boundary(self) -> bool:
        """Whether a stream that ends now ends between two frames."""
        return not self._held and not self._in_ltx

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """Frames completed by ``data``, which may end anywhere. Exhaust the iterator before the next call.

        Raises:
            StreamError: unknown frame type, or a name that is empty or too long; says at which byte of the stream.
        """
        if self._held:
            data, self._held = self._held + data, b""
        view = memoryview(data)
        at, end = 0, len(data)
        while at < end:
            if self._chunk_left:
                piece = view[at : at + self._chunk_left]
                at += len(piece)
                self._chunk_left -= len(piece)
                yield LTXData(piece)
            elif self._in_ltx:
                if end - at < 2:
                    break
                (self._chunk_left,) = _U16.unpack_from(view, at)
                at += 2
                if not self._chunk_left:
                    self._in_ltx = False
                    yield LTXEnd()
            else:
                parsed = self._parse(view, at)
                if parsed is None:
                    break
                frame, at = parsed
                self._in_ltx = type(frame) is LTXStart
                yield frame
        self._consumed += at
        self._held = bytes(view[at:])

    def _parse(self, view: memoryview, at: int) -> tuple[Frame, int] | None:
        """The frame (or LTX frame head) at ``at`` and the offset behind it; None when it is not complete yet."""
        if len(view) - at < 4:
            return None
        (kind,) = _U32.unpack_from(view, at)
        body = at + 4
        if kind == FrameType.LTX or kind == FrameType.HWM:
            if len(view) - body < 12:
                return None
            (number,) = _U64.unpack_from(view, body)
            text = self._text(view, body + 8, MAX_NAME, "database name")
            if text is None:
                return None
            name, after = text
            return (LTXStart(name) if kind == FrameType.LTX else HWM(number, name)), after
        if kind == FrameType.HEARTBEAT:
            if len(view) - body < 8:
                return None
            (timestamp_ms,) = _I64.unpack_from(view, body)
            if not 0 <= timestamp_ms <= MAX_TIME:
                raise StreamError(f"stream byte {self._consumed + at}: the sender's clock shows {timestamp_ms} ms")
            return Heartbeat(timestamp_ms), body + 8
        if kind == FrameType.READY:
            return Ready(), body
        if kind == FrameType.END:
            return End(), body
        if kind == FrameType.DROP_DB:
            text = self._text(view, body, MAX_NAME, "database name")
            return None if text is None else (DropDB(text[0]), text[1])
        if kind == FrameType.HANDOFF:
            text = self._text(view, body, MAX_LEASE_ID, "lease id")
            return None if text is None else (Handoff(text[0]), text[1])
        if kind == FrameType.MEMBERS:
            found = self._bytes(view, body, MAX_MEMBERS, "list of nodes")
            return None if found is None else (Members(bytes(found[0])), found[1])
        if kind == FrameType.TERM:
            if len(view) - body < 12:
                return None
            number = _U64.unpack_from(view, body)[0]
            if number > MAX_TERM:
                raise StreamError(f"stream byte {self._consumed + at}: {number} is no term")
            return Term(number, bool(_U32.unpack_from(view, body + 8)[0])), body + 12
        raise StreamError(f"stream byte {self._consumed + at}: unknown frame type 0x{kind:08x}")

    def _text(self, view: memoryview, at: int, limit: int, what: str) -> tuple[str, int] | None:
        """A ``u32 length + UTF-8`` field and the offset behind it; None when it is not complete yet."""
        found = self._bytes(view, at, limit, what)
        return None if found is None else (decode_name(found[0]), found[1])

    def _bytes(self, view: memoryview, at: int, limit: int, what: str) -> tuple[memoryview, int] | None:
        if len(view) - at < 4:
            return None
        (length,) = _U32.unpack_from(view, at)
        if not 0 < length <= limit:
            raise StreamError(f"stream byte {self._consumed + at}: {what} of {length} bytes, must have 1 to {limit}")
        start = at + 4
        if len(view) - start < length:
            return None
        return view[start : start + length], start + length
