"""Databases to measure with."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

PAGE = 4096  # bytes
_POINTERS = PAGE // 4 - 2  # leaves that a page of the free list can name; SQLite itself uses 6 less
_LOCK_PAGE = 0x40000000 // PAGE + 1


def build_filled(path: Path, size: int) -> None:
    """A database of about `size` bytes, half of it text that compresses, half of it random."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, r BLOB)")
    rows = size // 1036
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < ?) "
        "INSERT INTO t SELECT i, printf('%.64c row %d of the table, %.400c', 'a', i, 'b'), randomblob(500) FROM n",
        (rows,),
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


def build_sparse(path: Path, size: int) -> None:
    """A WAL database of `size` bytes that takes little space: all but a few pages are free, and holes in the file.

    The pages of the free list are written, which name the free ones; those are never read.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        f"PRAGMA page_size={PAGE}; PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT);"
        "PRAGMA journal_mode=DELETE; PRAGMA journal_mode=WAL; PRAGMA wal_checkpoint(TRUNCATE);"
    )
    connection.close()
    with open(path, "r+b") as file:
        first = len(file.read()) // PAGE + 1
        pages = size // PAGE
        free = [pgno for pgno in range(first, pages + 1) if pgno != _LOCK_PAGE]
        used = _POINTERS - 6
        trunks = [free[at : at + used + 1] for at in range(0, len(free), used + 1)]
        for number, (trunk, *leaves) in enumerate(trunks):
            following = trunks[number + 1][0] if number + 1 < len(trunks) else 0
            file.seek((trunk - 1) * PAGE)
            file.write(struct.pack(f">{2 + len(leaves)}I", following, len(leaves), *leaves))
        file.truncate(pages * PAGE)
        file.seek(28)
        file.write(struct.pack(">3I", pages, trunks[0][0], len(free)))
