"""Reads LTX files: streaming, in bounded memory, and with every rule of the format checked.

A bad byte anywhere is an `LTXError` that says ``NAME: at byte N: why``; errors of the file object itself (`OSError`)
pass through. Beyond the file checksum the decoder enforces what Go LiteFS's leaves to chance: ascending page numbers
within the commit size, and the deletion rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import xor
from struct import Struct
from typing import BinaryIO, Protocol

from litefs.errors import LTXError
from litefs.ltx.checksum import CHECKSUM_FLAG, crc64, record_checksums
from litefs.ltx.header import HEADER_SIZE, TRAILER_SIZE, Header, Trailer, check_post_apply
from litefs.ltx.lz4block import FrameReader, Lz4Error, Readable
from litefs.ltx.order import PageOrder

Page = tuple[int, bytes]

BATCH_SIZE = 1 << 20
"""Bytes of the page block that are read and checked at a time."""

_TERMINATOR = bytes(4)


class _Block(Protocol):
    """Where the page block's uncompressed bytes come from."""

    label: str

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer only at the end."""

    def rest(self, beyond: bytes, offset: int) -> tuple[int, bytes]:
        """Given what was read ``beyond`` the terminator: the trailer's offset in the file and its bytes."""


class _RawBlock:
    label = ""

    def __init__(self, fileobj: Readable) -> None:
        self._fileobj = fileobj

    def read(self, size: int) -> bytes:
        return _read_full(self._fileobj, size)

    def rest(self, beyond: bytes, offset: int) -> tuple[int, bytes]:
        return offset, beyond + _read_full(self._fileobj, TRAILER_SIZE - len(beyond))


class _Lz4Block:
    label = " of the decompressed file"

    def __init__(self, fileobj: Readable) -> None:
        self._fileobj = fileobj
        self._frame = FrameReader(fileobj)

    def read(self, size: int) -> bytes:
        return self._frame.read(size)

    def rest(self, beyond: bytes, offset: int) -> tuple[int, bytes]:
        if beyond:
            raise Lz4Error(offset - HEADER_SIZE, "the LZ4 frame goes on after the end of the pages")
        length, unused = self._frame.rest()
        return HEADER_SIZE + length, unused + _read_full(self._fileobj, TRAILER_SIZE - len(unused))


class Decoder:
    """Reads one LTX file from its first byte on.

    The header is read at once. Iterate for ``(pgno, data)`` in ascending order, or over `batches` for lists of them;
    a file is only known to be whole when the iteration has ended without an error. Bytes after the trailer are
    ignored, though up to a batch of them may have been read.

    Args:
        fileobj: anything with ``read(n)``.
        name: what errors call the file.
        batch_size: about how many bytes to hold at a time.

    Attributes:
        checksums: of the pages of the last batch, if the file is a snapshot.
    """

    def __init__(self, fileobj: Readable, *, name: str = "", batch_size: int = BATCH_SIZE) -> None:
        self.name = name or "LTX file"
        data = _read_full(fileobj, HEADER_SIZE)
        self.header = Header.decode(data, self.name)
        self._record = Struct(f">I{self.header.page_size}s")
        self._batch_size = max(1, batch_size // self._record.size) * self._record.size
        self._block: _Block = _Lz4Block(fileobj) if self.header.compressed else _RawBlock(fileobj)
        self._order = PageOrder(self.header)
        self._offset = HEADER_SIZE
        self._crc = crc64(data)
        self._checksum = 0
        self.checksums: list[int] = []
        self._trailer: Trailer | None = None
        self._pages = self._read_batches()

    @property
    def trailer(self) -> Trailer:
        """The checked trailer; raises `ValueError` before the pages were read to their end."""
        if self._trailer is None:
            raise ValueError("the trailer is known only after all pages were read")
        return self._trailer

    def __iter__(self) -> Iterator[Page]:
        for batch in self._pages:
            yield from batch

    def batches(self) -> Iterator[list[Page]]:
        """Yield lists of ``(pgno, data)``, each about ``batch_size`` bytes; the fast way through a large file."""
        return self._pages

    def _read_batches(self) -> Iterator[list[Page]]:
        size, record = self._batch_size, self._record.size
        while True:
            data = self._read(size)
            view = memoryview(data)
            whole = len(data) // record * record
            pages: list[Page] = list(self._record.iter_unpack(view[:whole]))
            numbers = [pgno for pgno, _ in pages]
            ended = 0 in numbers
            if ended:
                count = numbers.index(0)
                whole = count * record
                del pages[count:], numbers[count:]
            if pages:
                self._check_numbers(numbers)
                self._sum(view[:whole])
                yield pages
            if ended or len(data) < size:
                self._finish(data[whole:])
                return

    def _read(self, size: int) -> bytes:
        try:
            return self._block.read(size)
        except Lz4Error as exc:
            raise self._refuse_lz4(exc) from exc

    def _sum(self, records: memoryview) -> None:
        self._offset += len(records)
        self._crc = crc64(records, self._crc)
        if self.header.is_snapshot:
            self.checksums = record_checksums(records, self._record.size)
            self._checksum = reduce(xor, self.checksums, self._checksum)

    def _check_numbers(self, numbers: list[int]) -> None:
        problem = self._order.accept(numbers)
        if problem is not None:
            index, why = problem
            raise self._refuse(self._offset + index * self._record.size, why)

    def _finish(self, data: bytes) -> None:
        """Check everything after the last page; ``data`` starts there."""
        self._check_terminator(data)
        self._crc = crc64(_TERMINATOR, self._crc)
        try:
            at, rest = self._block.rest(data[4:], self._offset + 4)
        except Lz4Error as exc:
            raise self._refuse_lz4(exc) from exc
        trailer = Trailer.decode(rest, self.name, at)
        expected = CHECKSUM_FLAG | crc64(rest[:8], self._crc)
        if trailer.file_checksum != expected:
            why = f"file checksum is {trailer.file_checksum:016x}, the contents have {expected:016x}"
            raise LTXError(f"{self.name}: at byte {at + 8}: {why}")
        self._check_post_apply(trailer, at)
        self._trailer = trailer

    def _check_terminator(self, data: bytes) -> None:
        if data[:4] != _TERMINATOR:
            if len(data) >= 4:
                self._check_numbers([int.from_bytes(data[:4], "big")])
            raise self._refuse(self._offset + len(data), "the file ends inside its pages")
        why = self._order.end()
        if why is not None:
            raise self._refuse(self._offset, why)

    def _check_post_apply(self, trailer: Trailer, at: int) -> None:
        why = check_post_apply(self.header, trailer.post_apply)
        expected = CHECKSUM_FLAG | self._checksum
        if why is None and self.header.is_snapshot and trailer.post_apply != expected:
            why = f"post-apply checksum is {trailer.post_apply:016x}, the pages have {expected:016x}"
        if why is not None:
            raise LTXError(f"{self.name}: at byte {at}: {why}")

    def _refuse(self, offset: int, why: str) -> LTXError:
        return LTXError(f"{self.name}: at byte {offset}{self._block.label}: {why}")

    def _refuse_lz4(self, exc: Lz4Error) -> LTXError:
        return LTXError(f"{self.name}: at byte {HEADER_SIZE + exc.offset}: {exc.why}")


def verify(fileobj: Readable, name: str = "") -> tuple[Header, Trailer]:
    """Read a whole file and check all of it; raises `LTXError`."""
    decoder = Decoder(fileobj, name=name)
    for _ in decoder.batches():
        pass
    return decoder.header, decoder.trailer


def read_info(fileobj: BinaryIO, name: str = "") -> tuple[Header, Trailer]:
    """Read the header and the last 16 bytes of a seekable file, no page.

    Only for files known to be whole: no checksum is compared, and the trailer is taken to be the file's end.
    Raises `LTXError`.
    """
    name = name or "LTX file"
    fileobj.seek(0)
    header = Header.decode(_read_full(fileobj, HEADER_SIZE), name)
    at = max(fileobj.seek(0, 2) - TRAILER_SIZE, HEADER_SIZE)
    fileobj.seek(at)
    trailer = Trailer.decode(_read_full(fileobj, TRAILER_SIZE), name, at)
    why = check_post_apply(header, trailer.post_apply)
    if why is not None:
        raise LTXError(f"{name}: at byte {at}: {why}")
    return header, trailer


def _read_full(fileobj: Readable, size: int) -> bytes:
    """Read ``size`` bytes, fewer only at the end of the file."""
    if size <= 0:
        return b""
    data = fileobj.read(size)
    if len(data) == size or not data:
        return data
    parts, missing = [data], size - len(data)
    while missing and (data := fileobj.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)
