"""HTTP/1.1's chunked transfer coding, decoded without copying: half the time h11 takes for a transaction."""

from __future__ import annotations

from litefs.errors import StreamError

_LONGEST_LINE = 1024


class ChunkedBody:
    """Decodes the body of one message. Does no I/O: `feed` what was received, then take `next` until it is None."""

    def __init__(self) -> None:
        self.ended = False
        self._data = b""
        self._at = 0
        self._left = 0  # bytes of the present chunk
        self._after_chunk = False  # its line end is still to come
        self._in_trailer = False

    def feed(self, data: bytes) -> None:
        """More bytes from the connection. Everything before must have been taken."""
        rest = self._data[self._at :]
        self._data = rest + data if rest else data
        self._at = 0

    def next(self) -> memoryview | None:
        """The next bytes of the body; None when more must be fed, or the body has ended.

        Raises:
            StreamError: this is not the chunked coding.
        """
        while not self.ended:
            if self._left:
                return self._piece()
            line = self._line()
            if line is None:
                return None
            if self._in_trailer:
                self.ended = not line
            elif self._after_chunk:
                self._after_chunk = False
                if line:
                    raise StreamError("the peer broke HTTP/1.1: a chunk is longer than announced")
            else:
                self._left = _size(line)
                self._after_chunk = self._left > 0
                self._in_trailer = self._left == 0
        return None

    def _piece(self) -> memoryview | None:
        piece = memoryview(self._data)[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        return piece if piece else None

    def _line(self) -> bytes | None:
        end = self._data.find(b"\r\n", self._at)
        if (len(self._data) if end < 0 else end) - self._at > _LONGEST_LINE:
            raise StreamError("the peer broke HTTP/1.1: a line that never ends between two chunks")
        if end < 0:
            return None
        line = self._data[self._at : end]
        self._at = end + 2
        return line


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > 15 or not all(digit in b"0123456789abcdefABCDEF" for digit in digits):
        raise StreamError(f"the peer broke HTTP/1.1: {line[:40]!r} is no chunk size")
    return int(digits, 16)
