"""A database elsewhere, whose transactions are taken as page sets to be applied to a copy."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from litefs.live import LiveDatabase, PageSet
from litefs.ltx import lock_page

from .reader import CREATE, FILL

Pages = dict[int, bytes]


class Origin:
    """A SQLite database in a file of its own. In WAL mode it is checkpointed before its pages are looked at."""

    def __init__(self, path: Path, page_size: int = 4096, mode: str = "wal") -> None:
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute(f"PRAGMA page_size={page_size}")
        self.db.execute("PRAGMA auto_vacuum=FULL")
        self.db.execute("PRAGMA synchronous=OFF")
        self.db.execute(f"PRAGMA journal_mode={mode}")
        self._seen: Pages = {}

    @property
    def page_size(self) -> int:
        return int(self.db.execute("PRAGMA page_size").fetchone()[0])

    def execute(self, *statements: str) -> None:
        """One transaction."""
        self.db.execute("BEGIN IMMEDIATE")
        for statement in statements:
            self.db.execute(statement)
        self.db.execute("COMMIT")

    def rows(self, sql: str) -> list[list[object]]:
        return [list(row) for row in self.db.execute(sql)]

    def changes(self) -> PageSet:
        """What changed since the last call."""
        pages = self._pages()
        changed = {pgno: page for pgno, page in pages.items() if self._seen.get(pgno) != page}
        self._seen = pages
        return page_set(self.page_size, len(self.data()) // self.page_size, changed)

    def everything(self) -> PageSet:
        self._seen = self._pages()
        return page_set(self.page_size, len(self.data()) // self.page_size, self._seen)

    def data(self) -> bytes:
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.path.read_bytes()

    def _pages(self) -> Pages:
        data, size = self.data(), self.page_size
        starts = range(0, len(data), size)
        return {at // size + 1: data[at : at + size] for at in starts if at // size + 1 != lock_page(size)}


def page_set(page_size: int, commit: int, pages: Pages) -> PageSet:
    return PageSet(page_size, commit, lambda: iter(sorted(pages.items())))


def nothing() -> None:
    """A ``before`` that has nothing to say."""


def apply(live: LiveDatabase, changes: PageSet, before: Callable[[], None] = nothing, seconds: float = 10) -> None:
    live.apply(changes, before=before, deadline=time.monotonic() + seconds)


def step(origin: Origin, live: LiveDatabase, *statements: str) -> None:
    """A transaction, there and in the copy."""
    origin.execute(*statements)
    apply(live, origin.changes())


def filled(folder: Path, live: LiveDatabase, page_size: int = 4096, mode: str = "wal") -> Origin:
    """A database that has the rows of generation 0 (see `reader`), there and in the copy."""
    origin = Origin(folder / "origin.db", page_size, mode)
    step(origin, live, CREATE, FILL)
    return origin


def content(live: LiveDatabase, path: Path) -> bytes:
    """The database as a snapshot shows it."""
    backing = str(path)
    with live.snapshot(backing, backing + "-wal", nothing, time.monotonic() + 10) as snapshot:
        return b"".join(part for _, part in snapshot.pages())
