"""The LZ4 form of a page block: one frame of independent 64 KiB blocks with a content checksum and no size.

Those are the parameters Go LiteFS writes; any LZ4 frame is read. Decompression is bounded: no call returns more
than it was asked for, whatever the input claims, so a few hostile bytes cannot become gigabytes of memory.
"""

from __future__ import annotations

from typing import Any, Protocol

import lz4.frame

from litefs.ltx.checksum import Data

_INPUT_SIZE = 1 << 18
_MAGIC = b"\x04\x22\x4d\x18"
_PARAMETERS: dict[str, Any] = {
    "block_size": lz4.frame.BLOCKSIZE_MAX64KB,
    "block_linked": False,
    "content_checksum": True,
}


class Readable(Protocol):
    """The part of a binary file that decoding needs; a short answer is fine, an empty one is the end."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class Lz4Error(Exception):
    """The frame is damaged or cut short. ``offset`` counts input bytes from the start of the frame."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(why)
        self.offset = offset
        self.why = why


def compress(block: Data) -> bytes:
    """Return a whole page block as one frame."""
    return bytes(lz4.frame.compress(block, store_size=False, **_PARAMETERS))


class FrameWriter:
    """Makes a frame piece by piece."""

    def __init__(self) -> None:
        self._compressor: Any = lz4.frame.LZ4FrameCompressor(**_PARAMETERS)
        self._head: bytes = self._compressor.begin()

    def compress(self, data: Data) -> bytes:
        """Return the next bytes of the frame, perhaps none."""
        head, self._head = self._head, b""
        return head + bytes(self._compressor.compress(data))

    def flush(self) -> bytes:
        """Return the end of the frame."""
        head, self._head = self._head, b""
        return head + bytes(self._compressor.flush())


class FrameReader:
    """Reads one frame from a file, never more than asked for at a time."""

    def __init__(self, fileobj: Readable) -> None:
        self._fileobj = fileobj
        self._frame: Any = lz4.frame.LZ4FrameDecompressor()
        self._consumed = 0

    def read(self, size: int) -> bytes:
        """Return up to ``size`` decompressed bytes, fewer only at the end of the frame; raises `Lz4Error`."""
        parts: list[bytes] = []
        while size > 0 and not self._frame.eof:
            piece = self._step(size)
            parts.append(piece)
            size -= len(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _step(self, size: int) -> bytes:
        data = b""
        if self._frame.needs_input:
            data = self._fileobj.read(_INPUT_SIZE)
            if not data:
                raise Lz4Error(self._consumed, "the file ends inside the LZ4 frame")
            if self._consumed == 0 and not _MAGIC.startswith(data[:4]):
                raise Lz4Error(0, "the page block is not an LZ4 frame")
        offset, self._consumed = self._consumed, self._consumed + len(data)
        try:
            return bytes(self._frame.decompress(data, max_length=size))
        except (RuntimeError, EOFError, MemoryError) as exc:
            raise Lz4Error(offset, f"in or after this piece the LZ4 frame is damaged: {exc}") from exc

    def rest(self) -> tuple[int, bytes]:
        """After the end of the frame: its length in bytes and what was read beyond it; raises `Lz4Error`."""
        if self.read(1) or not self._frame.eof:
            raise Lz4Error(self._consumed, "the LZ4 frame goes on after the end of the pages")
        unused: bytes = self._frame.unused_data or b""
        return self._consumed - len(unused), unused
