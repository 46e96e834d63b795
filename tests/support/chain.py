"""Whether the files of a database behind the mount make sense together: the chain of LTX files, and what it gives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from litefs import ltx
from litefs.errors import FormatError
from litefs.ltx import EMPTY, Pos
from litefs.sqlite.header import DatabaseHeader
from litefs.sqlite.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, WalHeader, frame_offset, scan
from tests.support.waiting import wait_for

FOLDED = 20.0  # seconds


@dataclass
class Replayed:
    """What the LTX files of a database lead to."""

    pos: Pos
    image: bytes  # the database file
    files: int


def checksum(image: bytes, page_size: int) -> int:
    """Checksum of a database given as the bytes of its file."""
    total = 0
    for pgno in range(1, len(image) // page_size + 1):
        if pgno != ltx.lock_page(page_size):
            total ^= ltx.page_checksum(pgno, image[(pgno - 1) * page_size : pgno * page_size])
    return ltx.CHECKSUM_FLAG | total


def replay(directory: Path) -> Replayed:
    """Verify every LTX file of ``dbs/NAME`` and apply the chain, which must begin with a snapshot or TXID 1.

    Raises `AssertionError` where the chain is broken, or leads to another checksum than it says.
    """
    paths = sorted((directory / "ltx").glob("*.ltx"))
    assert paths, f"{directory}: no LTX files"
    pages: dict[int, bytes] = {}
    page_size, commit, pos = 0, 0, Pos(0, 0)
    for path in paths:
        with open(path, "rb") as file:
            ltx.verify(file, path.name)
        with open(path, "rb") as file:
            decoder = ltx.Decoder(file, name=path.name)
            head = decoder.header
            assert ltx.filename(head.min_txid, head.max_txid) == path.name
            assert head.min_txid == pos.txid + 1, f"{path.name} does not follow transaction {pos.txid}"
            assert head.pre_apply == pos.checksum, f"{path.name} does not follow {pos}"
            if head.page_size != page_size:
                pages.clear()
                page_size = head.page_size
            pages.update((pgno, bytes(data)) for pgno, data in decoder)
            commit = head.commit
            pages = {pgno: data for pgno, data in pages.items() if pgno <= commit}
            pos = Pos(head.max_txid, decoder.trailer.post_apply)
        image = b"".join(pages.get(pgno, bytes(page_size)) for pgno in range(1, commit + 1))
    found = checksum(image, page_size) if image else EMPTY
    assert found == pos.checksum, f"{paths[-1].name}: leads to {ltx.format_checksum(found)}, says {pos}"
    return Replayed(pos, image, len(paths))


def files_image(directory: Path) -> bytes:
    """The database as its file and the complete transactions of its WAL have it; b"" when it does not exist."""
    database, wal = directory / "database", directory / "wal"
    image = bytearray(database.read_bytes() if database.exists() else b"")
    _cut(image)
    if not wal.exists() or wal.stat().st_size < WAL_HEADER_SIZE:
        return bytes(image)
    fd = os.open(wal, os.O_RDONLY)
    try:
        try:
            head = WalHeader.parse(os.pread(fd, WAL_HEADER_SIZE, 0))
        except FormatError:
            return bytes(image)  # SQLite, too, takes such a WAL for empty
        size, pending = head.page_size, {}
        for frame in scan(fd, head):
            pending[frame.pgno] = frame_offset(frame.number, size) + FRAME_HEADER_SIZE
            if frame.commit:
                image += bytes(max(0, frame.commit * size - len(image)))
                for pgno, offset in pending.items():
                    if pgno <= frame.commit:
                        image[(pgno - 1) * size : pgno * size] = os.pread(fd, size, offset)
                del image[frame.commit * size :]
                pending.clear()
    finally:
        os.close(fd)
    return bytes(image)


def _cut(image: bytearray) -> None:
    """SQLite cuts a file without a WAL after the transaction that made it smaller; killed in between, it never does."""
    try:
        head = DatabaseHeader.parse(bytes(image[:100]))
    except FormatError:
        return
    if head.page_count_valid:
        del image[head.page_count * head.page_size :]


def check_end(directory: Path, pos: Pos) -> Replayed:
    """As `check`, of a database whose first LTX files are gone: what they led to is taken from the database itself."""
    paths = sorted((directory / "ltx").glob("*.ltx"))
    before: Pos | None = None
    for path in paths:
        with open(path, "rb") as file:
            head, trailer = ltx.verify(file, path.name)
        assert before is None or head.pos_before == before, f"{path.name} does not follow {before}"
        before = Pos(head.max_txid, trailer.post_apply)
    assert before == pos, f"{directory.name}: the LTX files lead to {before}, the node says {pos}"
    fits = f"{directory.name}, with the checksum {pos}"
    wait_for(lambda: checksum(files_image(directory), head.page_size) == pos.checksum, fits, FOLDED)
    return Replayed(pos, files_image(directory), len(paths))


def check(directory: Path, pos: Pos) -> Replayed:
    """The LTX files, the database with its WAL, and the position that a node tells of an idle database all agree."""
    found = replay(directory)
    assert found.pos == pos, f"{directory.name}: the LTX files lead to {found.pos}, the node says {pos}"
    # A log whose chain of checksums has a hole (see `litefs.store.wal`) cannot be read so, until the node, which folds
    # it, has closed it some seconds later.
    wait_for(lambda: files_image(directory) == found.image, f"{directory.name}, as its LTX files say it is", FOLDED)
    return found
