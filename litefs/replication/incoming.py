"""One LTX file on its way in: collected in memory while small, verified and written to disk at once when big.

Nothing of it touches the database before all of it has been verified.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from litefs.errors import LTXError
from litefs.ltx import TRAILER_SIZE, Decoder, Header, Trailer, verify
from litefs.replication.pipes import PIECE, ToThread

if TYPE_CHECKING:
    from litefs.store import Database
    from litefs.store.content import Content

log = logging.getLogger(__name__)

INLINE = 64 << 10
"""Bytes up to which a file is verified in the trio thread: a commit's usual size, 0.1 ms at most."""

IN_MEMORY = 1 << 20
"""Bytes up to which a file is kept in memory until it is applied."""


@dataclass(slots=True)
class Received:
    """A verified LTX file: its bytes, or the temporary file that holds them."""

    database: Database
    header: Header
    trailer: Trailer
    data: bytes
    path: Path | None
    content: Content | None = None  # of the whole database, when a big file holds that

    @property
    def cost(self) -> int:
        """Bytes of memory it takes while it waits; a file on disk counts as a fixed sum."""
        return len(self.data) if self.path is None else IN_MEMORY

    def write(self) -> Path:
        """The file in the database's LTX directory, written if it was in memory. Blocks on the disk."""
        if self.path is None:
            self.path = self.database.ltx_dir.temporary()
            with open(self.path, "xb", buffering=0) as file:
                file.write(self.data)
            self.data = b""
        return self.path

    def discard(self) -> None:
        """Delete the temporary files, if there are any."""
        self.discard_content()
        if self.path is not None:
            with suppress(FileNotFoundError):
                self.path.unlink()

    def discard_content(self) -> None:
        """Delete what was not put in the database's place."""
        if self.content is not None:
            self.content.discard()


class Incoming:
    """Collects one LTX file."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._buffer = bytearray()
        self._pipe: ToThread[tuple[Header, Trailer]] | None = None
        self._path: Path | None = None
        self._content: Content | None = None

    async def add(self, data: memoryview) -> None:
        """The next bytes.

        Raises:
            LTXError: the file is already known to be bad.
            OSError: the disk failed.
        """
        self._buffer += data
        if len(self._buffer) > (IN_MEMORY if self._pipe is None else PIECE):
            await self._spill()

    async def _spill(self) -> None:
        if self._pipe is None:
            self._path = self.database.ltx_dir.temporary()
            self._content = self.database.new_content()
            self._pipe = ToThread(verifier(self._path, self.database.name, self._content))
        piece = bytes(self._buffer)
        self._buffer.clear()
        await self._pipe.put(piece)

    async def finish(self) -> Received:
        """The file is complete: verify what is left of it.

        Raises:
            LTXError: it is no valid LTX file.
            OSError: the disk failed.
        """
        if self._pipe is not None:
            await self._spill()
            header, trailer = await self._pipe.finish()
            path, self._path = self._path, None
            content, self._content = self._content, None
            return Received(self.database, header, trailer, b"", path, content if header.is_snapshot else None)
        data = bytes(self._buffer)
        if len(data) <= INLINE:
            header, trailer = self._verify(data)
        else:
            header, trailer = await trio.to_thread.run_sync(self._verify, data)
        return Received(self.database, header, trailer, data, None)

    def _verify(self, data: bytes) -> tuple[Header, Trailer]:
        name = _label(self.database.name)
        header, trailer = verify(io.BytesIO(data), name)
        _check_end(name, data[-TRAILER_SIZE:], trailer)
        return header, trailer

    async def aclose(self) -> None:
        """Stop; a file that finish() did not hand out is deleted."""
        if self._pipe is not None:
            await self._pipe.aclose()
        if self._path is not None:
            with suppress(FileNotFoundError):
                self._path.unlink()
        if self._content is not None:
            self._content.discard()


def _label(name: str) -> str:
    return f'transaction received for "{name}"'


def _check_end(name: str, end: bytes, trailer: Trailer) -> None:
    """The trailer must be the end of the file: others find it there."""
    if end != trailer.encode():
        raise LTXError(f"{name}: there are bytes after the trailer")


class _Tee:
    """A file to read from that keeps a copy of what was read."""

    def __init__(self, read: Callable[[int], bytes], fd: int) -> None:
        self.end = b""  # the last bytes read
        self._read = read
        self._fd = fd

    def read(self, size: int, /) -> bytes:
        data = self._read(size)
        self.end = (self.end + data[-TRAILER_SIZE:])[-TRAILER_SIZE:]
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        return data


def verifier(
    path: Path, name: str, content: Content | None = None
) -> Callable[[Callable[[int], bytes]], tuple[Header, Trailer]]:
    """What runs in the worker of a `ToThread`: verify a file of database `name` as it comes, and write it to `path`.

    What a snapshot holds is added to `content`. It raises LTXError for what is no valid file; what was written by then
    is for the caller to delete.
    """

    def consume(read: Callable[[int], bytes]) -> tuple[Header, Trailer]:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            tee = _Tee(read, fd)
            decoder = Decoder(tee, name=_label(name))
            for pages in decoder.batches():
                if content is not None and decoder.header.is_snapshot:
                    content.add(pages, decoder.checksums)
            tee.read(TRAILER_SIZE)  # what came after the trailer
            _check_end(_label(name), tee.end, decoder.trailer)
            return decoder.header, decoder.trailer
        finally:
            if content is not None:
                content.close()
            os.close(fd)

    return consume
