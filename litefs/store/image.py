"""A database as its files on disk have it: the database file with the WAL's transactions over it. Blocking."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from litefs import ltx
from litefs.errors import FormatError, LTXError
from litefs.ltx import CHECKSUM_FLAG
from litefs.sqlite.header import DatabaseHeader
from litefs.sqlite.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, WalHeader, frame_offset, frame_size, scan
from litefs.store.pagetable import PageTable
from litefs.store.publisher import State
from litefs.store.sqlitefile import committed_size
from litefs.store.syncing import sync_fd

log = logging.getLogger(__name__)

_BATCH = 1 << 20  # bytes read at once


@dataclass(slots=True)
class WALTransaction:
    """A complete transaction in the WAL."""

    offset: int  # bytes, of its first frame
    size: int
    commit: int  # pages
    pages: dict[int, int] = field(default_factory=dict)  # page -> offset of its content

    @property
    def end(self) -> int:
        """Bytes, where its last frame ends."""
        return self.offset + self.size


class Later:
    """What the database file may have of transactions in the WAL, by way of a checkpoint.

    Args:
        torn: whether a page there may also be half written: only where it is certain which transactions are later.
    """

    def __init__(self, image: Image, torn: bool) -> None:
        self._image = image
        self._torn = torn
        self._last: dict[int, int] = {}  # page -> number of the last transaction that writes it
        self._lowest = [1 << 32]  # size in pages that the database has at least, after the first n transactions
        for number, tx in enumerate(image.transactions, 1):
            self._last.update(dict.fromkeys(tx.pages, number))
        for tx in reversed(image.transactions):
            self._lowest.append(min(self._lowest[-1], tx.commit))
        self._lowest.reverse()

    def explains(self, wrong: set[int], in_file: set[int], number: int) -> bool:
        """Whether all pages that are wrong after so many transactions lie in the file, and are of later ones."""
        return all(pgno in in_file and self._explains(pgno, number) for pgno in wrong)

    def _explains(self, pgno: int, number: int) -> bool:
        if pgno > self._lowest[number]:
            return True
        if self._last.get(pgno, 0) <= number:
            return False
        return self._torn or self._image.file_checksum(pgno) in self._image.wal_checksums(pgno, number)


class Image:
    """The database file and the complete transactions of the WAL, open for recovery."""

    def __init__(self, path: Path, page_size: int) -> None:
        self._path = path
        self.fd = self._open(path / "database")
        self.wal_fd = self._open(path / "wal")
        self.wal_header = self._read_wal_header()
        self.transactions: list[WALTransaction] = self._scan()
        self._foreign: list[WALTransaction] = []  # of another page size
        self._own_page_size = self._find_page_size()
        self.page_size = page_size or self._own_page_size
        if self.wal_header is not None and self.wal_header.page_size != self.page_size:
            self._foreign, self.transactions = self.transactions, []
        self._suspects: set[int] = set()

    def use_own_page_size(self) -> None:
        """Look at the database as SQLite would, not as the position has it."""
        if self._own_page_size != self.page_size:
            self.page_size, self.transactions = self._own_page_size, self._foreign

    @staticmethod
    def _open(path: Path) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1

    def __enter__(self) -> Image:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files: nothing is there any more."""
        for fd in (self.fd, self.wal_fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self.wal_fd = -1
        self.transactions.clear()

    # ------------------------------------------------------------------------------------------------- looking

    def _read_wal_header(self) -> WalHeader | None:
        if self.wal_fd < 0:
            return None
        try:
            return WalHeader.parse(os.pread(self.wal_fd, WAL_HEADER_SIZE, 0))
        except FormatError:
            return None

    def _scan(self) -> list[WALTransaction]:
        header = self.wal_header
        found: list[WALTransaction] = []
        if header is None:
            return found
        size = frame_size(header.page_size)
        pages: dict[int, int] = {}
        start = frame_offset(1, header.page_size)
        for frame in scan(self.wal_fd, header):
            offset = frame_offset(frame.number, header.page_size)
            pages[frame.pgno] = offset + FRAME_HEADER_SIZE
            if frame.commit:
                end = offset + size
                found.append(WALTransaction(start, end - start, frame.commit, pages))
                pages, start = {}, end
        return found

    def _find_page_size(self) -> int:
        """Bytes a page; 0 when there is no database."""
        if self.transactions and self.wal_header is not None:
            return self.wal_header.page_size
        found = committed_size(self.fd) if self.fd >= 0 else None
        return found[0] if found else 0

    @property
    def file_pages(self) -> int:
        """Pages of the database file alone, by its header where that is right."""
        found = committed_size(self.fd) if self.fd >= 0 else None
        return found[1] if found else 0

    @property
    def committed_pages(self) -> int:
        """Pages of the database as SQLite sees it."""
        return self.transactions[-1].commit if self.transactions else self.file_pages

    def file_checksum(self, pgno: int) -> int:
        """Checksum of a page in the database file; 0 when it is not there."""
        data = os.pread(self.fd, self.page_size, (pgno - 1) * self.page_size) if self.fd >= 0 else b""
        return ltx.page_checksum(pgno, data) if len(data) == self.page_size else 0

    def wal_checksums(self, pgno: int, after: int) -> set[int]:
        """Checksums that a page has in the WAL's transactions after the first `after`."""
        offsets = (tx.pages[pgno] for tx in self.transactions[after:] if pgno in tx.pages)
        return {ltx.page_checksum(pgno, os.pread(self.wal_fd, self.page_size, offset)) for offset in offsets}

    def _wal_checksums(self, tx: WALTransaction) -> Iterable[tuple[int, int]]:
        for pgno, offset in tx.pages.items():
            yield pgno, ltx.page_checksum(pgno, os.pread(self.wal_fd, self.page_size, offset))

    def first_pages(self) -> set[int]:
        """Checksums of page 1 in the database file and in the WAL."""
        found = {self.file_checksum(1)}
        for tx in self.transactions:
            if 1 in tx.pages:
                found.add(ltx.page_checksum(1, os.pread(self.wal_fd, self.page_size, tx.pages[1])))
        return found

    def change_counter(self) -> int | None:
        """By which SQLite tells that the database file was changed; None without a database of this page size."""
        try:
            head = DatabaseHeader.parse(os.pread(self.fd, 100, 0) if self.fd >= 0 else b"")
        except FormatError:
            return None
        return head.change_counter if head.page_size == self.page_size else None

    def says_wal(self) -> bool:
        """Whether page 1 of the database file says WAL."""
        try:
            return self.fd >= 0 and DatabaseHeader.parse(os.pread(self.fd, 100, 0)).is_wal
        except FormatError:
            return False

    # ---------------------------------------------------------------------------------------------- the base

    def known(self, seen: Container[tuple[int, int]]) -> int:
        """How many of the WAL's transactions are none but what LTX files have: page and checksum of each."""
        for number in range(len(self.transactions), 0, -1):
            if all(pair in seen for pair in self._wal_checksums(self.transactions[number - 1])):
                return number
        return 0

    def base(
        self, table: PageTable, state: State, touched: set[int], place: range | None, least: int = 0
    ) -> int | None:
        """How many of the WAL's transactions belong to the position that `table` is true for; None: it fits none.

        Only pages that the WAL or recent LTX files touch are looked at. What the database file has of later
        transactions is no contradiction: a checkpoint may have got as far as that, or half the way.

        Args:
            place: how many it can be, see `walplace`.
            least: how many it is at least, see `known`; counts where there is no place.
        """
        size = os.fstat(self.fd).st_size // self.page_size if self.fd >= 0 else 0
        suspects = touched | set(range(size + 1, state.commit + 1))
        for tx in self.transactions:
            suspects.update(tx.pages)
        suspects.discard(ltx.lock_page(self.page_size))
        self._suspects = suspects
        # Pages whose newest content so far is not that of the position, and of these the ones in the file itself.
        wrong = {p for p in suspects if p <= state.commit and self.file_checksum(p) != table.get(p)}
        in_file = set(wrong)
        later = Later(self, torn=place is not None)
        fitting = [0] if later.explains(wrong, in_file, 0) else []
        for number, tx in enumerate(self.transactions, 1):
            for pgno, checksum in self._wal_checksums(tx):
                in_file.discard(pgno)
                if pgno <= state.commit and checksum != table.get(pgno):
                    wrong.add(pgno)
                else:
                    wrong.discard(pgno)
            if tx.commit == state.commit and later.explains(wrong, in_file, number):
                fitting.append(number)
        possible = range(least, len(self.transactions) + 1) if place is None else place
        fitting = [number for number in fitting if number in possible]
        return fitting[-1] if fitting else None

    def find_base(self, table: PageTable, state: State) -> int | None:
        """Fill the table from the database file and the WAL, up to where it has the checksum of the position.

        Returns how many of the WAL's transactions that takes; None when no point fits, then the table is of all.
        """
        total, commit = self._read_file(table), self.file_pages
        best = 0 if CHECKSUM_FLAG | total == state.pos.checksum and commit == state.commit else None
        undo: list[tuple[int, int]] = []
        best_undo = 0
        for number, tx in enumerate(self.transactions, 1):
            for pgno, checksum in self._wal_checksums(tx):
                if pgno == ltx.lock_page(self.page_size):
                    continue
                old = table.get(pgno)
                undo.append((pgno, old))
                table.set(pgno, checksum)
                total ^= checksum ^ (old if pgno <= commit else 0)
                commit = max(commit, pgno)
            for pgno, old in table.tail(tx.commit):
                total ^= old if pgno <= commit else 0
            commit = tx.commit
            if CHECKSUM_FLAG | (total & ~CHECKSUM_FLAG) == state.pos.checksum and commit == state.commit:
                best, best_undo = number, len(undo)
        if best is not None:
            for pgno, old in reversed(undo[best_undo:]):
                table.set(pgno, old)
            table.truncate(state.commit)
        return best

    def _read_file(self, table: PageTable) -> int:
        """Checksums of the whole database file; their XOR, without the flag bit."""
        if self.fd < 0:
            return 0
        total, pgno, skip = 0, 1, ltx.lock_page(self.page_size)
        batch = max(1, _BATCH // self.page_size)
        table.reserve(os.fstat(self.fd).st_size // self.page_size)
        while data := os.pread(self.fd, batch * self.page_size, (pgno - 1) * self.page_size):
            data = data[: len(data) // self.page_size * self.page_size]
            if not data:
                break
            for number, checksum in enumerate(ltx.page_checksums(pgno, data, self.page_size), pgno):
                if number != skip:
                    table.set(number, checksum)
                    total ^= checksum
            pgno += len(data) // self.page_size
        return total & ~CHECKSUM_FLAG

    # -------------------------------------------------------------------------------------------------- changing

    def repair(self, table: PageTable, state: State, sources: list[Path]) -> bool:
        """Give every page that `base` looked at the content that the table asks for, from the WAL or LTX files.

        False, with nothing changed, when some content is nowhere to be found.
        """
        missing = {
            pgno: table.get(pgno)
            for pgno in self._suspects
            if pgno <= state.commit and self.file_checksum(pgno) != table.get(pgno)
        }
        content: dict[int, bytes] = {}
        for tx in reversed(self.transactions):
            for pgno, checksum in self._wal_checksums(tx):
                if pgno not in content and missing.get(pgno) == checksum:
                    content[pgno] = os.pread(self.wal_fd, self.page_size, tx.pages[pgno])
        for path in sources:
            if len(content) == len(missing):
                break
            self._collect(path, missing, content)
        if len(content) < len(missing):
            log.warning("%s: %d pages cannot be found", self._path.name, len(missing) - len(content))
            return False
        if self.fd < 0:
            self.fd = os.open(self._path / "database", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for pgno, data in content.items():
            os.pwrite(self.fd, data, (pgno - 1) * self.page_size)
        self.transactions.clear()
        return True

    @staticmethod
    def _collect(path: Path, missing: dict[int, int], content: dict[int, bytes]) -> None:
        try:
            with open(path, "rb") as file:
                for pgno, data in ltx.Decoder(file, name=path.name):
                    if pgno not in content and pgno in missing and ltx.page_checksum(pgno, data) == missing[pgno]:
                        content[pgno] = bytes(data)
        except (OSError, LTXError) as error:
            log.warning("%s: %s", path.name, error)

    def fold(self, commit: int) -> None:
        """Copy the WAL's transactions into the database file and cut it to size; durable afterwards.

        Raises:
            OSError: the disk failed; the WAL still holds everything.
        """
        if self.fd < 0:
            if not self.transactions:
                return
            self.fd = os.open(self._path / "database", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        newest: dict[int, int] = {}
        for tx in self.transactions:
            newest.update(tx.pages)
        for pgno, offset in sorted(newest.items()):
            if pgno <= commit:
                os.pwrite(self.fd, os.pread(self.wal_fd, self.page_size, offset), (pgno - 1) * self.page_size)
        if os.fstat(self.fd).st_size != commit * self.page_size:
            os.ftruncate(self.fd, commit * self.page_size)
        sync_fd(self.fd)

    def is_sound(self) -> bool:
        """Whether SQLite finds the folded database file intact."""
        try:
            connection = sqlite3.connect(f"file:{self._path / 'database'}?immutable=1", uri=True)
            try:
                return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
            finally:
                connection.close()
        except sqlite3.Error:
            return False
