"""What SQLite sees of a database: frames of the WAL over the database file. Captured where frames alone do not tell."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from litefs.sqlite.wal import WalHeader
from litefs.store import capturing, walchain
from litefs.store.sqlitefile import committed_size
from litefs.store.transaction import NO_WAL, InPlace, PageMap, WALPart

if TYPE_CHECKING:
    from litefs.store.database import Database

log = logging.getLogger(__name__)


async def capture_view(
    db: Database,
    wal: int,
    header: WalHeader | None,
    pages: set[int],
    end: int,
    part: WALPart = NO_WAL,
    frames: tuple[int, int] = (0, 0),
) -> None:
    """Capture pages with the content that they have for SQLite: the first `end` frames over the database file.

    Args:
        db: where they are.
        wal: descriptor of the WAL; not used without a header.
        header: of the WAL, if it has one.
        pages: numbers of pages; those that the database has grown by are captured as well.
        end: number of frames.
        part: as for `capturing.capture`.
        frames: as for `capturing.capture`.

    Raises:
        OSError: it could not be captured.
    """
    state = db.state
    found = _committed_size_at(db.file)
    page_size, commit = found or (state.page_size, 0)
    if header is not None and end:
        page_size, commit = header.page_size, walchain.commit_size(wal, header, end)
    elif found is None and state.commit:
        log.error("%s: SQLite finds no database any more, and its LTX files end with one", db.name)
        return
    known = state.commit if page_size == state.page_size else 0
    wanted = pages | set(range(known + 1, commit + 1)) if known else range(1, commit + 1)
    fd = os.open(db.file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        over = walchain.locate(wal, header, end, wanted) if header is not None else {}
        offsets = InPlace(wanted, page_size)
        await capturing.capture(db, PageMap(fd, page_size, offsets, wal, over), commit, part, frames)
    finally:
        os.close(fd)


def _committed_size_at(path: os.PathLike[str]) -> tuple[int, int] | None:
    """(page size, pages) of a database file, by its header as SQLite reads it; None when it is empty or none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return committed_size(fd)
    finally:
        os.close(fd)
