"""One transaction on its way into an LTX file: which pages, where they are, what they change."""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from litefs import ltx
from litefs.store.pagetable import PageTable
from litefs.store.publisher import State

SMALL = 1 << 20  # bytes of pages that are handled in one piece, in the trio thread


@dataclass(frozen=True, slots=True)
class WALPart:
    """Which bytes of which WAL the transaction is; goes into the LTX header."""

    offset: int
    size: int
    salt1: int
    salt2: int


NO_WAL = WALPart(0, 0, 0, 0)


class InPlace(Mapping[int, int]):
    """Page -> offset in a database file, for pages that may be millions."""

    def __init__(self, pages: Collection[int], page_size: int) -> None:
        self.pages = pages
        self._page_size = page_size

    def __getitem__(self, pgno: int) -> int:
        return (pgno - 1) * self._page_size

    def __iter__(self) -> Iterator[int]:
        return iter(self.pages if isinstance(self.pages, range) else sorted(self.pages))

    def __len__(self) -> int:
        return len(self.pages)


class Checksums:
    """(page, checksum) of pages in ascending order: twelve bytes for each, where tuples take a hundred."""

    __slots__ = ("_pages", "_values")

    def __init__(self) -> None:
        self._pages = array("I")
        self._values = array("Q")

    def append(self, pgno: int, checksum: int) -> None:
        """One more."""
        self._pages.append(pgno)
        self._values.append(checksum)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._pages, self._values, strict=True)

    def __len__(self) -> int:
        return len(self._pages)


@dataclass(frozen=True, slots=True)
class PageMap:
    """Pages of one transaction and where their content lies in a file, or in another one that lies over it."""

    fd: int
    page_size: int
    offsets: Mapping[int, int]  # page -> offset in bytes; beyond the file's end is zeros
    over_fd: int = -1
    over: dict[int, int] = field(default_factory=dict)  # page -> offset in `over_fd`

    @property
    def size(self) -> int:
        """Bytes of all pages."""
        return len(self.offsets) * self.page_size

    def read(self, pgno: int) -> bytes:
        """Content of one page.

        Raises:
            OSError: the disk failed.
        """
        if pgno in self.over:
            data = os.pread(self.over_fd, self.page_size, self.over[pgno])
        else:
            data = os.pread(self.fd, self.page_size, self.offsets[pgno])
        return data if len(data) == self.page_size else data.ljust(self.page_size, b"\0")


@dataclass(slots=True)
class Change:
    """What a transaction does to the database: pages whose content is new, and the checksum that results."""

    checksums: Checksums = field(default_factory=Checksums)  # new ones
    pages: list[tuple[int, bytes]] = field(default_factory=list)  # their content; only for small transactions
    post_apply: int = 0
    is_wal: bool | None = None  # what page 1 says now; None when page 1 is not part of it

    def __bool__(self) -> bool:
        return len(self.checksums) > 0


def examine(pages: PageMap, commit: int, table: PageTable, before: State) -> Change:
    """Compare pages with the table.

    Pages beyond `commit`, the lock page and pages whose content did not change are left out. When the page size
    changes, `pages` must hold the whole database.
    """
    change = Change()
    same_size = pages.page_size == before.page_size
    keep = pages.size <= SMALL
    skip = ltx.lock_page(pages.page_size)
    total = before.pos.checksum if same_size else 0
    for pgno in pages.offsets if isinstance(pages.offsets, InPlace) else sorted(pages.offsets):
        if pgno > commit or pgno == skip:
            continue
        data = pages.read(pgno)
        new = ltx.page_checksum(pgno, data)
        old = table.get(pgno) if same_size and pgno <= before.commit else 0
        if pgno == 1:
            change.is_wal = data[18] == 2
        if new == old:
            continue
        total ^= new ^ old
        change.checksums.append(pgno, new)
        if keep:
            change.pages.append((pgno, data))
    if same_size and commit < before.commit:
        for pgno, old in table.tail(commit):
            if pgno <= before.commit and pgno != skip:
                total ^= old
    change.post_apply = ltx.CHECKSUM_FLAG | total
    return change


def header(
    commit: int, page_size: int, before: State, part: WALPart, *, flags: int, timestamp: int, node_id: int
) -> ltx.Header:
    """LTX header of the transaction that follows `before`."""
    txid = before.pos.txid + 1
    return ltx.Header(
        flags=flags,
        page_size=page_size,
        commit=commit,
        min_txid=txid,
        max_txid=txid,
        timestamp=timestamp,
        pre_apply=before.pos.checksum if txid > 1 else 0,
        wal_offset=part.offset,
        wal_size=part.size,
        salt1=part.salt1,
        salt2=part.salt2,
        node_id=node_id,
    )


def write_small(path: Path, head: ltx.Header, change: Change) -> int:
    """Write the LTX file of a small transaction under its final name; its size in bytes.

    A crash in the middle leaves a torn file, which start-up sets aside: nobody was told of the transaction yet.

    Raises:
        OSError: the disk is full or failed; no file is left.
    """
    data = ltx.encode(head, change.pages, change.post_apply)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, data[written:])
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
    return len(data)


def write_large(temporary: Path, head: ltx.Header, change: Change, pages: PageMap) -> int:
    """Write and sync the LTX file of a large transaction under a temporary name; its size in bytes.

    Raises:
        OSError: the disk is full or failed; no file is left.
    """
    try:
        with open(temporary, "wb", buffering=0) as raw:
            encode_to(raw, head, ((pgno, pages.read(pgno)) for pgno, _ in change.checksums), change.post_apply)
            os.fdatasync(raw.fileno())
            return raw.tell()
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def encode_to(raw: BinaryIO, head: ltx.Header, pages: Iterator[tuple[int, bytes]], post_apply: int) -> ltx.Trailer:
    """Stream pages into an LTX file."""
    encoder = ltx.Encoder(raw, head)
    for pgno, data in pages:
        encoder.write_page(pgno, data)
    return encoder.finish(post_apply)
