"""Directories ``dbs/NAME`` made by hand: what a database looked like, and the LTX files that a node writes of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from litefs import ltx
from litefs.ltx import EMPTY, Pos

from . import chain


class Scratch:
    """A plain SQLite database that serves as the model; its files can be copied at any moment.

    Args:
        directory: where it is.
        mode: its journal mode.
        page_size: in bytes.
    """

    def __init__(self, directory: Path, mode: str = "wal", page_size: int = 4096) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.path = directory / "database"
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self("PRAGMA page_size = " + str(page_size))
        self("PRAGMA journal_mode = " + mode)
        self("PRAGMA wal_autocheckpoint = 0")

    def __call__(self, *statements: str) -> list[tuple[object, ...]]:
        """Run statements; rows of the last one."""
        rows: list[tuple[object, ...]] = []
        for statement in statements:
            rows = self.connection.execute(statement).fetchall()
        return rows

    def side(self, name: str) -> bytes:
        """Bytes of the "wal" or "journal"; b"" when there is none."""
        path = self.path.with_name(f"database-{name}")
        return path.read_bytes() if path.exists() else b""

    @property
    def image(self) -> bytes:
        """The database as SQLite sees it."""
        model = self.directory / "model"
        model.mkdir(exist_ok=True)
        (model / "database").write_bytes(self.path.read_bytes())
        (model / "wal").write_bytes(self.side("wal"))
        return chain.files_image(model)


def fill(scratch: Scratch, rows: int = 100, size: int = 300) -> None:
    """A table with rows that take some pages."""
    scratch(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x)",
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
        f"INSERT INTO t SELECT i, randomblob({size}) FROM n",
    )


def page_size_of(image: bytes) -> int:
    """Bytes, by the header."""
    size = int.from_bytes(image[16:18], "big")
    return 65536 if size == 1 else size


class History:
    """The LTX files of a database.

    Attributes:
        directory: ``dbs/NAME``.
        pos, image: where the last one led.
        images: the database at each TXID.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pos = Pos(0, 0)
        self.image = b""
        self.images: dict[int, bytes] = {}
        (directory / "ltx").mkdir(parents=True, exist_ok=True)

    def commit(
        self, image: bytes, *, page_size: int = 0, wal: tuple[int, int, int, int] = (0, 0, 0, 0), node_id: int = 7
    ) -> Path:
        """One more transaction, to this content; its file. `wal` is offset, size and salts."""
        page_size = page_size or page_size_of(image or self.image)
        skip = ltx.lock_page(page_size)
        same = bool(self.image) and page_size_of(self.image) == page_size
        pages = []
        for pgno in range(1, len(image) // page_size + 1):
            data = image[(pgno - 1) * page_size : pgno * page_size]
            old = self.image[(pgno - 1) * page_size : pgno * page_size] if same else b""
            if data != old and pgno != skip:
                pages.append((pgno, data))
        txid = self.pos.txid + 1
        pre = self.pos.checksum if txid > 1 else 0
        wal_offset, wal_size, salt1, salt2 = wal
        head = ltx.Header(
            flags=0,
            page_size=page_size,
            commit=len(image) // page_size,
            min_txid=txid,
            max_txid=txid,
            timestamp=1000 + txid,
            pre_apply=pre,
            wal_offset=wal_offset,
            wal_size=wal_size,
            salt1=salt1,
            salt2=salt2,
            node_id=node_id,
        )
        post = chain.checksum(image, page_size) if image else EMPTY
        path = self.directory / "ltx" / ltx.filename(txid, txid)
        path.write_bytes(ltx.encode(head, pages, post))
        self.pos, self.image, self.images[txid] = Pos(txid, post), image, image
        return path

    def place(self, database: bytes | None, *, wal: bytes = b"", journal: bytes = b"") -> None:
        """Write the database's files as a crash may have left them."""
        for name, data in (("database", database), ("wal", wal or None), ("journal", journal or None)):
            if data is None:
                (self.directory / name).unlink(missing_ok=True)
            else:
                (self.directory / name).write_bytes(data)
