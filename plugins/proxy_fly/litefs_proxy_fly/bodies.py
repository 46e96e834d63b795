"""The body of an HTTP/1.1 message, read piece by piece as it comes and written on in a framing of our own.

A reader is fed what arrives and hands out the part that is payload. It never holds more than one unfinished line.
"""

from __future__ import annotations

import re
from typing import Protocol

from litefs_proxy_fly.heads import CHUNKED, UNTIL_CLOSE

MAX_LINE = 4 << 10  # bytes of a chunk's size with its extensions
MAX_TRAILERS = 16 << 10

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*+;[\t\x20-\x7e\x80-\xff]*+)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+")
_FORBIDDEN = re.compile(rb"(?i:content-length|transfer-encoding|host|connection|cookie|set-cookie|trailer):")


class BadBody(Exception):
    """A body that breaks its framing."""


class Body(Protocol):
    """A reader.

    Attributes:
        done: whether all of it was taken.
        trailers: lines after the last chunk, each with its end.
    """

    done: bool
    trailers: bytes

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Payload in what arrived, and what lies behind the end of the body.  Raises BadBody."""

    def ended(self) -> None:
        """The connection was closed.  Raises BadBody where the body is not complete."""


class Counted:
    """A body of known length."""

    trailers = b""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """See `Body`."""
        size = len(data)
        if size < self._left:
            self._left -= size
            return data, b""
        left, self._left, self.done = self._left, 0, True
        return (data, b"") if size == left else (data[:left], data[left:])

    def ended(self) -> None:
        """See `Body`."""
        if not self.done:
            raise BadBody(f"{self._left} bytes of the body are missing")


class UntilClose:
    """A body that ends with the connection."""

    trailers = b""
    done = False

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """See `Body`."""
        return data, b""

    def ended(self) -> None:
        """See `Body`."""
        self.done = True


class Chunked:
    """A body in chunks.  Extensions of chunks are dropped."""

    def __init__(self) -> None:
        self.done = False
        self.trailers = b""
        self._line = b""  # the beginning of a line whose end has not arrived
        self._left = 0  # bytes of the present chunk
        self._next = self._size

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """See `Body`."""
        payload: list[bytes] = []
        at, end = 0, len(data)
        while at < end and not self.done:
            if self._left:
                piece = data[at : at + self._left]
                payload.append(piece)
                self._left -= len(piece)
                at += len(piece)
                continue
            stop = data.find(b"\n", at)
            if stop < 0:
                self._line += data[at:]
                self._limit()
                at = end
                break
            line, self._line = self._line + data[at:stop], b""
            at = stop + 1
            self._limit(line)
            if line[-1:] != b"\r":
                raise BadBody("a line of a chunked body does not end with CR LF")
            self._next(line[:-1])
        return payload[0] if len(payload) == 1 else b"".join(payload), data[at:] if at < end else b""

    def ended(self) -> None:
        """See `Body`."""
        if not self.done:
            raise BadBody("the last chunk of the body is missing")

    def _limit(self, line: bytes = b"") -> None:
        if len(self._line or line) > MAX_LINE:
            raise BadBody("a line of a chunked body is too long")

    def _size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadBody("bad size of a chunk")
        self._left = int(match[1], 16)
        self._next = self._data_end if self._left else self._trailer

    def _data_end(self, line: bytes) -> None:
        if line:
            raise BadBody("a chunk is longer than it says")
        self._next = self._size

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
        elif not _TRAILER.fullmatch(line):
            raise BadBody("malformed trailer")
        elif not _FORBIDDEN.match(line):
            self.trailers += line + b"\r\n"
            if len(self.trailers) > MAX_TRAILERS:
                raise BadBody("too many trailers")


NOTHING = Counted(0)  # needs no reader of its own: it is never read


def reader(length: int) -> Body:
    """The reader for the length of a head."""
    if not length:
        return NOTHING
    if length == CHUNKED:
        return Chunked()
    return UntilClose() if length == UNTIL_CLOSE else Counted(length)


def chunk(payload: bytes) -> bytes:
    """A payload as one chunk; nothing for none, since an empty chunk is the last one."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


def last_chunk(trailers: bytes) -> bytes:
    """The end of a chunked body."""
    return b"0\r\n%b\r\n" % trailers
