"""The pages that a WAL holds, and which of them are in the database file, too. Blocking."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from litefs import ltx
from litefs.store.pagetable import PageTable


class WALPages:
    """Pages in the captured frames of one WAL."""

    def __init__(self) -> None:
        self._all: set[int] = set()
        self._pending: set[int] = set()  # not seen on their way into the database file since they were captured

    def add(self, pages: Iterable[int]) -> None:
        """Frames with these pages were captured."""
        self._all.update(pages)
        self._pending.update(pages)

    def clear(self) -> None:
        """The frames are gone."""
        self._all.clear()
        self._pending.clear()

    def __contains__(self, pages: range) -> bool:
        return all(pgno in self._all for pgno in pages)

    def checkpointed(self, pages: range, data: bytes, page_size: int, table: PageTable) -> None:
        """Whole pages are about to be written to the database file; `table` knows their newest checksums."""
        for i, pgno in enumerate(pages):
            if pgno in self._pending:
                page = data[i * page_size : (i + 1) * page_size]
                if ltx.page_checksum(pgno, page) == table.get(pgno):
                    self._pending.discard(pgno)

    def missing(self, path: Path, page_size: int, commit: int, table: PageTable) -> set[int]:
        """Pages whose newest content is not in the database file.

        Raises:
            OSError: the disk failed.
        """
        pending = {pgno for pgno in self._pending if pgno <= commit} - {ltx.lock_page(page_size)}
        lost = set()
        if pending:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                for pgno in pending:
                    data = os.pread(fd, page_size, (pgno - 1) * page_size)
                    if len(data) < page_size or ltx.page_checksum(pgno, data) != table.get(pgno):
                        lost.add(pgno)
            finally:
                os.close(fd)
        self._pending = lost
        return lost
