"""Writes LTX files: `encode` for the small ones that commits make, `Encoder` for any size in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import xor
from struct import Struct
from typing import Protocol

from litefs.errors import LTXError
from litefs.ltx.checksum import CHECKSUM_FLAG, Data, crc64, database_checksum, lock_page, record_checksums
from litefs.ltx.header import Header, Trailer, check_post_apply
from litefs.ltx.lz4block import FrameWriter, compress
from litefs.ltx.order import PageOrder

Page = tuple[int, Data]

_BUFFER_SIZE = 1 << 20
_TERMINATOR = bytes(4)
_pack_u32 = Struct(">I").pack
_pack_u64 = Struct(">Q").pack


class Writable(Protocol):
    """The part of a binary file that encoding needs; `write` takes everything it is given."""

    def write(self, data: bytes, /) -> object:
        """Write all of it."""


def encode(header: Header, pages: Sequence[Page], post_apply: int) -> bytes:
    """Return a whole LTX file; the commit path: 4 us for two pages of 4 KiB.

    Pages must ascend strictly, stay within ``header.commit`` and leave out the lock page; a snapshot must hold every
    other page and match ``post_apply``. Raises `LTXError`.
    """
    head = header.encode()
    _require(header, check_post_apply(header, post_apply))
    order = PageOrder(header)
    block = _records(header, order, pages) + _TERMINATOR
    if header.min_txid == 1:
        _require(header, order.end())
        checksum = database_checksum(record_checksums(memoryview(block)[:-4], header.page_size + 4))
        _require_same(header, checksum, post_apply)
    end = _pack_u64(post_apply)
    file_checksum = _pack_u64(CHECKSUM_FLAG | crc64(end, crc64(block, crc64(head))))
    return b"".join((head, compress(block) if header.flags else block, end, file_checksum))


class Encoder:
    """Writes an LTX file of any size; memory stays within a few megabytes, batches of about one are fastest.

    Nothing written is valid before `finish` returned.

    Args:
        fileobj: where the file goes, from its first byte on.
        header: written at once; its flags say whether pages are compressed.
    """

    def __init__(self, fileobj: Writable, header: Header) -> None:
        head = header.encode()
        self.header = header
        self._fileobj = fileobj
        self._frame = FrameWriter() if header.compressed else None
        self._order = PageOrder(header)
        self._lock_page = lock_page(header.page_size)
        self._buffer = bytearray()
        self._checksum = 0
        self._crc = crc64(head)
        fileobj.write(head)

    def write_page(self, pgno: int, data: Data) -> None:
        """Append a page; its bytes are copied. Raises `LTXError` when it may not follow the page before."""
        self._buffer += _records(self.header, self._order, ((pgno, data),))
        if len(self._buffer) >= _BUFFER_SIZE:
            self._drain()

    def write_pages(self, pages: Sequence[Page]) -> None:
        """Append pages; raises `LTXError` when one may not follow the page before."""
        records = _records(self.header, self._order, pages)
        self._drain()
        self._write(records)

    def write_raw_pages(self, first_pgno: int, buffer: Data) -> None:
        """Append consecutive whole pages, leaving out the lock page; raises `LTXError` as `write_pages` does."""
        view, size = memoryview(buffer), self.header.page_size
        if len(view) % size:
            raise LTXError(f"{len(view)} bytes are not whole pages of {size} bytes")
        numbered = enumerate(range(0, len(view), size), first_pgno)
        self.write_pages([(pgno, view[at : at + size]) for pgno, at in numbered if pgno != self._lock_page])

    def finish(self, post_apply: int | None = None) -> Trailer:
        """Write what is left and the trailer.

        A snapshot's database checksum is computed on the way: ``post_apply`` may be left out, and is compared when
        given. Raises `LTXError`, also when a snapshot lacks pages.
        """
        self._drain()
        post_apply = self._settle(post_apply)
        self._emit(_TERMINATOR)
        if self._frame is not None:
            self._fileobj.write(self._frame.flush())
        trailer = Trailer(post_apply, CHECKSUM_FLAG | crc64(_pack_u64(post_apply), self._crc))
        self._fileobj.write(trailer.encode())
        return trailer

    def _settle(self, post_apply: int | None) -> int:
        """Return the post-apply checksum to store."""
        header = self.header
        if header.is_snapshot:
            _require(header, self._order.end())
            checksum = self._checksum | CHECKSUM_FLAG
            if post_apply is None:
                return checksum
            _require_same(header, checksum, post_apply)
        if post_apply is None:
            raise LTXError("the post-apply checksum of a file that is no snapshot must be given")
        _require(header, check_post_apply(header, post_apply))
        return post_apply

    def _drain(self) -> None:
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            self._write(data)

    def _write(self, records: bytes) -> None:
        if self.header.is_snapshot:
            checksums = record_checksums(records, self.header.page_size + 4)
            self._checksum = reduce(xor, checksums, self._checksum)
        self._emit(records)

    def _emit(self, data: bytes) -> None:
        self._crc = crc64(data, self._crc)
        self._fileobj.write(data if self._frame is None else self._frame.compress(data))


def _records(header: Header, order: PageOrder, pages: Sequence[Page]) -> bytes:
    """Return the records of pages that may follow those before."""
    problem = order.accept([pgno for pgno, _ in pages])
    _require(header, problem and problem[1])
    page_size, parts = header.page_size, list[Data]()
    for pgno, data in pages:
        if len(data) != page_size:
            _require(header, f"page {pgno} has {len(data)} bytes, not {page_size}")
        parts.append(_pack_u32(pgno))
        parts.append(data)
    return b"".join(parts)


def _require(header: Header, why: str | None) -> None:
    if why is not None:
        raise LTXError(f"transaction {header.max_txid:016x}: {why}")


def _require_same(header: Header, checksum: int, post_apply: int) -> None:
    if checksum != post_apply:
        _require(header, f"post-apply checksum is {post_apply:016x}, the snapshot's pages have {checksum:016x}")
