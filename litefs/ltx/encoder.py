"""Writes LTX files: `encode` for the small ones that commits make, `Encoder` for any size in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Protocol

from litefs.errors import LTXError
from litefs.ltx.checksum import CHECKSUM_FLAG, Data, crc64, lock_page, page_checksum
from litefs.ltx.header import Header, Trailer, check_post_apply
from litefs.ltx.lz4block import FrameWriter, compress

_BUFFER_SIZE = 1 << 20
_TERMINATOR = bytes(4)
_pack_u32 = Struct(">I").pack
_pack_u64 = Struct(">Q").pack


class Writable(Protocol):
    """The part of a binary file that encoding needs; `write` takes everything it is given."""

    def write(self, data: bytes, /) -> object: ...


def encode(header: Header, pages: Sequence[tuple[int, Data]], post_apply: int) -> bytes:
    """Return a whole LTX file.

    This is the commit path: 4 us for two pages of 4 KiB. Pages must ascend strictly, stay within ``header.commit``
    and leave out the lock page; a snapshot must hold every other page and match ``post_apply``. Raises `LTXError`.
    """
    head = header.encode()
    _require(header, check_post_apply(header, post_apply))
    page_size, commit, lock = header.page_size, header.commit, lock_page(header.page_size)
    parts: list[Data] = [head]
    last = 0
    for pgno, data in pages:
        if not last < pgno <= commit or pgno == lock or len(data) != page_size:
            raise _page_error(header, last, pgno, len(data))
        parts.append(_pack_u32(pgno))
        parts.append(data)
        last = pgno
    if header.min_txid == 1:
        _check_snapshot(header, pages, post_apply)
    parts.append(_TERMINATOR)
    if header.flags:
        return _compressed(head, b"".join(parts[1:]), _pack_u64(post_apply))
    parts.append(_pack_u64(post_apply))
    body = b"".join(parts)
    return body + _pack_u64(CHECKSUM_FLAG | crc64(body))


def _compressed(head: bytes, block: bytes, post_apply: bytes) -> bytes:
    file_checksum = CHECKSUM_FLAG | crc64(post_apply, crc64(block, crc64(head)))
    return b"".join((head, compress(block), post_apply, _pack_u64(file_checksum)))


def _check_snapshot(header: Header, pages: Sequence[tuple[int, Data]], post_apply: int) -> None:
    # The pages are known to ascend without the lock page: their number says whether one is missing.
    expected = header.commit - (header.commit >= lock_page(header.page_size))
    if len(pages) != expected:
        raise LTXError(f"a snapshot of {header.commit} pages was given {len(pages)}, not {expected}")
    checksum = 0
    for pgno, data in pages:
        checksum ^= page_checksum(pgno, data)
    _require_post_apply(header, checksum | CHECKSUM_FLAG, post_apply)


class Encoder:
    """Writes an LTX file page by page; memory stays within a few megabytes.

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
        self._lock_page = lock_page(header.page_size)
        self._buffer = bytearray()
        self._last = 0
        self._checksum = 0
        self._crc = crc64(head)
        fileobj.write(head)

    def write_page(self, pgno: int, data: Data) -> None:
        """Append a page; its bytes are copied. Raises `LTXError` when it cannot follow the page before."""
        if not self._may_follow(pgno) or len(data) != self.header.page_size:
            raise _page_error(self.header, self._last, pgno, len(data))
        if self.header.min_txid == 1:
            self._checksum ^= page_checksum(pgno, data)
        self._buffer += _pack_u32(pgno)
        self._buffer += data
        self._last = pgno
        if len(self._buffer) >= _BUFFER_SIZE:
            self._drain()

    def write_raw_pages(self, first_pgno: int, buffer: Data) -> None:
        """Append consecutive whole pages, leaving out the lock page; raises `LTXError` as `write_page` does."""
        view, size = memoryview(buffer), self.header.page_size
        if len(view) % size:
            raise LTXError(f"{len(view)} bytes are not whole pages of {size} bytes")
        for pgno, at in enumerate(range(0, len(view), size), first_pgno):
            if pgno != self._lock_page:
                self.write_page(pgno, view[at : at + size])

    def finish(self, post_apply: int | None = None) -> Trailer:
        """Write what is left and the trailer.

        A snapshot's database checksum is computed on the way: ``post_apply`` may be left out, and is compared when
        given. Raises `LTXError`, also when a snapshot lacks pages.
        """
        post_apply = self._settle(post_apply)
        self._buffer += _TERMINATOR
        self._drain()
        if self._frame is not None:
            self._fileobj.write(self._frame.flush())
        trailer = Trailer(post_apply, CHECKSUM_FLAG | crc64(_pack_u64(post_apply), self._crc))
        self._fileobj.write(trailer.encode())
        return trailer

    def _may_follow(self, pgno: int) -> bool:
        if not self._last < pgno <= self.header.commit or pgno == self._lock_page:
            return False
        return self.header.min_txid != 1 or pgno == self._next_page()

    def _next_page(self) -> int:
        return self._last + 2 if self._last + 1 == self._lock_page else self._last + 1

    def _settle(self, post_apply: int | None) -> int:
        header = self.header
        if header.is_snapshot:
            if self._next_page() <= header.commit:
                raise LTXError(f"a snapshot of {header.commit} pages ends before page {self._next_page()}")
            checksum = self._checksum | CHECKSUM_FLAG
            if post_apply is None:
                return checksum
            _require_post_apply(header, checksum, post_apply)
        if post_apply is None:
            raise LTXError("the post-apply checksum of a file that is no snapshot must be given")
        _require(header, check_post_apply(header, post_apply))
        return post_apply

    def _drain(self) -> None:
        data = bytes(self._buffer)
        self._buffer.clear()
        self._crc = crc64(data, self._crc)
        self._fileobj.write(data if self._frame is None else self._frame.compress(data))


def _require(header: Header, why: str | None) -> None:
    if why is not None:
        raise LTXError(f"transaction {header.max_txid:016x}: {why}")


def _require_post_apply(header: Header, checksum: int, post_apply: int) -> None:
    if checksum != post_apply:
        why = f"post-apply checksum is {post_apply:016x}, the snapshot's pages have {checksum:016x}"
        raise LTXError(f"transaction {header.max_txid:016x}: {why}")


def _page_error(header: Header, last: int, pgno: int, size: int) -> LTXError:
    where = f"transaction {header.max_txid:016x}: page {pgno}"
    if size != header.page_size:
        return LTXError(f"{where} has {size} bytes, not {header.page_size}")
    if pgno == lock_page(header.page_size):
        return LTXError(f"{where} is SQLite's lock page")
    if pgno > header.commit:
        return LTXError(f"{where} is beyond the database size of {header.commit} pages")
    if header.is_snapshot and pgno > last:
        return LTXError(f"{where} after page {last}: a snapshot must hold every page")
    return LTXError(f"{where} after page {last}: not in ascending order")
