"""A database file of a branch: its copy of the database with its LTX files applied, checked against its tip. Blocking.

Page 1 stays as the branch had it, so a database in WAL mode comes out in WAL mode.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

from litefs import ltx
from litefs.errors import LTXError, StoreError
from litefs.ltx import CHECKSUM_FLAG, Pos
from litefs.sqlite.data import is_page_size
from litefs.store.branches import COPY, Branch, Reason

_BATCH = 1 << 20  # bytes read at once


class BranchDamaged(StoreError):
    """The files of a branch do not lead to its tip."""


def write(branch: Branch, out: BinaryIO) -> None:
    """Write the database as it was at the tip of a branch to an empty file that can be read again.

    Raises:
        Incomplete: the branch does not hold all of it.
        BranchDamaged: what comes out is not what the branch says.
        OSError: a disk failed.
    """
    chain = branch.chain()
    if not is_page_size(branch.page_size):
        raise BranchDamaged(f"branch {branch.name} should have pages of {branch.page_size} bytes", f"see {branch.path}")
    pos = Pos(0, 0)
    if branch.base:
        pos = Pos.parse(branch.base)
        with open(branch.copy, "rb") as file:
            shutil.copyfileobj(file, out, _BATCH)
    out.flush()
    for low, high in chain:
        path = branch.path / ltx.filename(low, high)
        try:
            pos = _apply(path, pos, out.fileno())
        except LTXError as error:
            raise BranchDamaged(f"branch {branch.name}: {error}") from None
    tip, size = Pos.parse(branch.tip), os.fstat(out.fileno()).st_size
    if size % branch.page_size:
        raise BranchDamaged(f"branch {branch.name} ends inside a page, at byte {size}", f"see {branch.path}")
    found = _checksum(out.fileno(), branch.page_size)
    if pos != tip or found != tip.checksum:
        raise BranchDamaged(
            f"branch {branch.name} should lead to {tip}, but its files lead to {pos}",
            f"the pages have checksum {ltx.format_checksum(found)}; see {branch.path}",
        )


def copy_damaged(branch: Branch, target: Path) -> list[Path]:
    """Copy the files of a `damaged` branch as they are to `target` and, a WAL, beside it; the files made.

    Raises:
        StoreError: it holds no database file.
    """
    if branch.reason != Reason.DAMAGED or not branch.copy.exists():
        raise StoreError(f"branch {branch.name} holds no database", f"look at its files: {branch.path}")
    made = []
    for suffix in ("", "-wal"):
        source = branch.path / f"{COPY}{suffix}"
        if source.exists():
            made.append(Path(shutil.copyfile(source, f"{target}{suffix}")))
    return made


def _apply(path: Path, pos: Pos, fd: int) -> Pos:
    with open(path, "rb") as file:
        decoder = ltx.Decoder(file, name=path.name)
        head = decoder.header
        if not head.is_snapshot and head.pos_before != pos:
            raise LTXError(f"{path.name}: follows {head.pos_before}, not {pos}")
        size = head.page_size
        for pgno, data in decoder:
            os.pwrite(fd, data, (pgno - 1) * size)
        os.ftruncate(fd, head.commit * size)
    return Pos(head.max_txid, decoder.trailer.post_apply)


def _checksum(fd: int, page_size: int) -> int:
    skip = ltx.lock_page(page_size)
    count = max(1, _BATCH // page_size)
    total, first = 0, 1
    while data := os.pread(fd, count * page_size, (first - 1) * page_size):
        for pgno, value in enumerate(ltx.page_checksums(first, data, page_size), first):
            total ^= value if pgno != skip else 0
        first += len(data) // page_size
    return CHECKSUM_FLAG | total
