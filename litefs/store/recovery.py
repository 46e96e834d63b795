"""Bringing a database to a state that can be trusted, when it is first used after a start. Blocking.

The LTX files are the source of truth. Whatever the database file, the WAL and a journal hold is made to agree with
the newest good LTX file; complete transactions that the WAL holds beyond it become LTX files. What to compare with
is the table of page checksums: saved now and then, brought forward here from the LTX files written since, so that
the work grows with what happened since it was saved, not with the database.

Afterwards the database file alone holds everything: there is no WAL and no journal.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from litefs import ltx
from litefs.errors import LTXError
from litefs.ltx import Pos
from litefs.store import aside, hotjournal, nodeids, pagetable, torn, transaction, walplace
from litefs.store.disk import MARK, mark
from litefs.store.image import Image, WALTransaction
from litefs.store.pagetable import PageTable, Stamp
from litefs.store.publisher import State
from litefs.store.syncing import SyncFailed, check_file, forget_cached, sync_directory, sync_files
from litefs.store.transaction import NO_WAL, InPlace, PageMap, WALPart
from litefs.store.way import Way

if TYPE_CHECKING:
    from litefs.store.database import Database
    from litefs.store.ltxdir import Range

log = logging.getLogger(__name__)

CHANGE_COUNTER = slice(24, 28)  # of page 1

Recovered = tuple[State, PageTable, Stamp]


def recover(db: Database) -> Recovered:
    """State, page checksums and what their file is true for, of a database at start.

    Raises:
        OSError: the disk failed.
    """
    return _run(db)


def settle(db: Database) -> None:
    """Leave an open database as it should lie on disk: the WAL folded in, the table saved.

    Raises:
        OSError: the disk failed.
    """
    _run(db)


def _run(db: Database) -> Recovered:
    try:
        return _Recovery(db).run()
    except SyncFailed:
        mark(db.path)
        return _Recovery(db).run()  # by what the disk really has


class _Recovery:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._path = db.path
        self._ltx = db.ltx_dir
        self._compress = db.store.compress
        self._node_id = db.store.node_id
        self._state = State()
        self._table = PageTable()
        self._stamp = Stamp(0, 0, Pos(0, 0))
        self._touched: set[int] = set()
        self._first_pages: set[int] = set()  # checksums that page 1 had since the table was saved; empty: all was read
        self._seen: set[tuple[int, int]] = set()  # page and checksum in LTX files since then
        self._synced = 0  # TXID up to which the LTX files are durable

    def run(self) -> Recovered:
        self._read_from_disk()
        self._clean()
        prepared = self._prepared()
        self._ltx.load()
        self._find_newest()
        self._touched |= prepared.get(self._state.pos, set())
        journal = hotjournal.play_back(self._db)
        self._touched |= journal.touched
        with Image(self._path, self._state.page_size) as image:
            if self._state.pos.txid and self._state.commit == 0:
                self._remove_database()
            elif image.page_size or self._state.pos.txid:
                known = self._load_table() or self._regenerate(image)
                rebuilt = not known and (self._rebuild_table(image) or self._go_back(image))
                if journal.committed:
                    self._capture_journaled(image)
                self._reconcile(image, known or rebuilt)
                if not known:
                    torn.drop(self._db)
        self._delete("journal")
        self._save()
        self._delete(MARK)
        return self._state, self._table, self._stamp

    # ------------------------------------------------------------------------------------------------ the pieces

    def _read_from_disk(self) -> None:
        """Where a sync has failed the kernel's memory still has what the disk has not: it must not be believed."""
        try:
            for name in ("database", "wal", "journal"):
                check_file(self._path / name)
        except SyncFailed:
            mark(self._path)
        if (self._path / MARK).exists():
            log.warning("%s: the disk has failed to store something: reading what it has", self._db.name)
            for path in (*self._path.iterdir(), *self._ltx.path.glob("*")):
                if path.is_file():
                    forget_cached(path)

    def _clean(self) -> None:
        for name in ("shm", "wal.removed"):
            self._delete(name)
        for path in self._path.glob("*.tmp"):
            path.unlink()

    def _prepared(self) -> dict[Pos, set[int]]:
        """Pages of transactions that only lack their name, by the position that they follow.

        The journal may be finalised all the same, when power failed before the directory was written. A commit shows in
        page 1 then; a rollback that has changed unused pages does not.
        """
        found: dict[Pos, set[int]] = {}
        for path in self._ltx.path.glob("*.tmp"):
            with suppress(LTXError), open(path, "rb") as file:
                decoder = ltx.Decoder(file, name=path.name)
                if not decoder.header.is_snapshot:
                    pages = {pgno for pgno, _ in decoder}
                    found.setdefault(decoder.header.pos_before, set()).update(pages)
        return found

    def _delete(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def _find_newest(self) -> None:
        """The newest LTX file that is whole says where the database is."""
        while newest := self._ltx.newest():
            path = self._ltx.file(*newest)
            try:
                head, trailer = torn.check(path)
                if (head.min_txid, head.max_txid) != newest:
                    raise LTXError(f"{path.name}: holds transactions {head.min_txid} to {head.max_txid}")
            except LTXError as error:
                # A kill in the middle of writing it does that; the transaction is in the WAL, or in the database.
                aside.keep_torn(self._db, newest, str(error))
            else:
                pos = Pos(head.max_txid, trailer.post_apply)
                self._state = State(pos, head.page_size, head.commit, head.timestamp)
                return

    def _remove_database(self) -> None:
        for name in ("wal", "database"):
            self._delete(name)

    # ----------------------------------------------------------------------------------------- page checksums

    def _load_table(self) -> bool:
        """The saved table, brought forward to the position; False when that is not possible."""
        way = self._walk()
        if not self._state.pos.txid or way.state.pos != self._state.pos or not way.is_right:
            return False
        self._take(way)
        return True

    def _walk(self) -> Way:
        """From the saved table along the LTX files, as far as they are whole and follow each other."""
        table, stamp = PageTable.load(self._path / "checksums") or (PageTable(), Stamp(0, 0, Pos(0, 0)))
        state = State(stamp.pos, stamp.page_size, stamp.commit)
        way = Way(stamp, table, state, first_pages={table.get(1)})
        if stamp.pos.txid <= self._state.pos.txid:
            for item in self._ltx.after(stamp.pos.txid):
                try:
                    if not way.follow(self._ltx.file(*item)):
                        break
                except LTXError as error:
                    log.warning("%s: %s", self._db.name, error)
                    break
        return way

    def _take(self, way: Way) -> None:
        self._table, self._stamp = way.table, way.stamp
        self._touched |= way.touched
        self._first_pages, self._seen = way.first_pages, way.seen

    def _regenerate(self, image: Image) -> bool:
        """LTX files are missing or torn before the newest, which is what power loss does to those not yet synced.

        What they held is still in the WAL then. Go back to where they begin: the rest is captured once more, and leads
        to the same positions. Whether it does is looked at before anything is changed.
        """
        way = self._walk()
        if not way.is_right or not way.state.pos.txid < self._state.pos.txid or way.state.page_size != image.page_size:
            return False
        base = self._base(image, way.table, way.state, self._touched | way.touched, way.seen)
        if base is None or not self._leads_here(image, base, way):
            return False
        log.warning(
            "%s: LTX files after %s are not whole, making them again from the WAL", self._db.name, way.state.pos
        )
        for item in reversed(self._after(way)):
            self._ltx.forget(item)  # another file will have its name
        self._take(way)
        self._state = way.state
        return True

    def _after(self, way: Way) -> list[Range]:
        return [item for item in self._ltx.ranges() if item[1] > way.state.pos.txid]

    def _go_back(self, image: Image) -> bool:
        """To where LTX files begin that a primary has sent and that are not all whole: it sends them once more."""
        way = self._walk()
        if not way.is_right or not 0 < way.state.pos.txid < self._state.pos.txid:
            return False
        after = self._after(way)
        if way.state.page_size != image.page_size or not torn.are_received(self._db, after):
            return False
        kept = aside.keep_files(self._db, after, f"files after {way.state.pos} are not whole")
        log.warning(
            "%s: LTX files after %s are not whole, its primary has them: going back; %s",
            self._db.name, way.state.pos, kept,
        )  # fmt: skip
        self._take(way)
        self._state = way.state
        return True

    def _leads_here(self, image: Image, base: int, way: Way) -> bool:
        """Whether the WAL's transactions lead from there to the position."""
        table, state = way.table.copy(), way.state
        for tx in image.transactions[base:]:
            change = transaction.examine(PageMap(image.wal_fd, image.page_size, tx.pages), tx.commit, table, state)
            if change or tx.commit != state.commit:
                table.update(change.checksums)
                table.truncate(tx.commit)
                state = State(Pos(state.pos.txid + 1, change.post_apply), image.page_size, tx.commit)
            if state.pos == self._state.pos:
                return True
        return False

    def _rebuild_table(self, image: Image) -> bool:
        """The table from the database itself, which costs a read of all of it; False when it fits no position."""
        started = time.monotonic()
        self._table = PageTable()
        base = image.find_base(self._table, self._state) if image.page_size else None
        log.info(
            "%s: read the whole database for its page checksums, in %.1f s", self._db.name, time.monotonic() - started
        )
        return base is not None or self._overlay_chain()

    def _overlay_chain(self) -> bool:
        """Whether the database becomes right when all LTX files at hand are applied to it."""
        for item in self._ltx.ranges():
            try:
                with open(self._ltx.file(*item), "rb") as file:
                    decoder = ltx.Decoder(file, name=str(item))
                    for pgno, data in decoder:
                        self._table.set(pgno, ltx.page_checksum(pgno, data))
                        self._touched.add(pgno)
                    self._table.truncate(decoder.header.commit)
            except LTXError as error:
                log.warning("%s: %s", self._db.name, error)
                return False
        state = self._state
        return self._table.checksum(state.page_size, state.commit) == state.pos.checksum

    # ------------------------------------------------------------------------------------------- reconciliation

    def _capture_journaled(self, image: Image) -> None:
        """The transaction of a journal counts, and its pages are in the database file."""
        if image.fd < 0:
            return
        commit = image.file_pages
        wanted = range(1, commit + 1)  # all: the journal does not tell of unused pages that came into use
        pages = PageMap(image.fd, image.page_size, InPlace(wanted, image.page_size))
        self._capture(pages, commit, NO_WAL)

    def _reconcile(self, image: Image, known: bool) -> None:
        """Make the database file hold the position, and what the WAL has beyond it."""
        known = known and self._state.pos.txid > 0
        base = None
        if known:
            base = self._base(image, self._table, self._state, self._suspects(image), self._seen)
        if base is not None:
            self._capture_extra(image, base)
        elif not known or self._is_ahead(image) or not image.repair(self._table, self._state, self._sources()):
            self._adopt_image(image, known)
        else:
            log.info("%s: brought forward from its LTX files", self._db.name)
        image.fold(self._state.commit)
        self._sync_ltx()  # before the WAL goes that they came from
        self._delete("wal")
        sync_directory(self._path)
        self._state.is_wal = image.says_wal()

    def _base(
        self, image: Image, table: PageTable, state: State, suspects: set[int], seen: set[tuple[int, int]]
    ) -> int | None:
        """How many of the WAL's transactions a position includes: by headers of LTX files, else by what they hold."""
        ends = [tx.end for tx in image.transactions]
        own = nodeids.known(self._db.store.data_dir)
        place = walplace.place(self._ltx, state.pos.txid, own, image.wal_header, ends)
        return image.base(table, state, suspects, place, least=image.known(seen) if place is None else 0)

    def _suspects(self, image: Image) -> set[int]:
        """Pages whose content may differ from what the table says.

        Those that transactions since the saved table have touched, as long as page 1 is from then. Every transaction
        without a WAL changes it, so another one tells of a file from elsewhere: then it is all pages.
        """
        if self._first_pages and not image.first_pages() & self._first_pages:
            log.warning("%s: the database file is not the one that was here before, reading all of it", self._db.name)
            return set(range(1, self._state.commit + 1))
        return self._touched

    def _is_ahead(self, image: Image) -> bool:
        """Whether the database file holds a transaction that no LTX file is left of.

        Its page 1 is none that was ever here then, and has a higher change counter than the newest that was.
        """
        counter = image.change_counter()
        if image.transactions or counter is None or image.first_pages() & self._first_pages:
            return False
        newest = None
        for path in self._sources():
            try:
                with open(path, "rb") as file:
                    pgno, data = next(iter(ltx.Decoder(file, name=path.name)), (0, b""))
            except LTXError:
                return False
            if pgno == 1:
                if ltx.page_checksum(1, data) in image.first_pages():
                    return False
                newest = int.from_bytes(data[CHANGE_COUNTER], "big") if newest is None else newest
        return newest is not None and 0 < (counter - newest) % (1 << 32) < 1 << 31 and image.is_sound()

    def _capture_extra(self, image: Image, base: int) -> None:
        """Make LTX files of what the WAL has beyond the position."""
        if self._is_captured(image, image.transactions[base:]):
            del image.transactions[base:]
        for tx in image.transactions[base:]:
            self._capture_wal(image, tx)

    def _is_captured(self, image: Image, extra: list[WALTransaction]) -> bool:
        """Whether the WAL ends before the position (see `wal`, of holes): its last transactions are no news then."""
        if not extra or image.wal_header is None:
            return False
        for item in reversed(self._ltx.ranges()):
            try:
                with open(self._ltx.file(*item), "rb") as file:
                    head, _ = ltx.read_info(file)
            except LTXError:
                return False
            if head.wal_size:
                salts = (image.wal_header.salt1, image.wal_header.salt2)
                return (head.salt1, head.salt2) == salts and extra[0].offset < head.wal_offset + head.wal_size
        return False

    def _sources(self) -> list[Path]:
        return [self._ltx.file(*item) for item in reversed(self._ltx.ranges())]

    def _capture_wal(self, image: Image, tx: WALTransaction) -> None:
        assert image.wal_header is not None
        part = WALPart(tx.offset, tx.size, image.wal_header.salt1, image.wal_header.salt2)
        self._capture(PageMap(image.wal_fd, image.page_size, tx.pages), tx.commit, part)

    def _capture(self, pages: PageMap, commit: int, part: WALPart) -> None:
        """Make the LTX file of one more transaction."""
        before = self._state
        change = transaction.examine(pages, commit, self._table, before)
        if not change and commit == before.commit and pages.page_size == before.page_size:
            return
        timestamp = max(time.time_ns() // 1_000_000, before.timestamp)
        head = transaction.header(
            commit, pages.page_size, before, part,
            flags=int(self._compress), timestamp=timestamp, node_id=self._node_id,
        )  # fmt: skip
        temporary = self._ltx.temporary()
        size = transaction.write_large(temporary, head, change, pages)
        final = self._ltx.file(head.min_txid, head.max_txid)
        os.replace(temporary, final)
        self._ltx.add(head.min_txid, head.max_txid, size)
        if pages.page_size != before.page_size:
            self._table.clear()
        self._table.reserve(commit)
        self._table.update(change.checksums)
        self._table.truncate(commit)
        self._state = State(Pos(head.max_txid, change.post_apply), head.page_size, commit, timestamp)
        log.info("%s: recovered transaction %s", self._db.name, ltx.format_txid(head.max_txid))

    def _adopt_image(self, image: Image, known: bool) -> None:
        """No LTX file explains what is there: take the database as SQLite sees it for one more transaction."""
        image.use_own_page_size()
        image.fold(image.committed_pages)
        image.transactions.clear()
        if self._state.pos.txid:
            if not image.file_pages or not image.is_sound():
                self._set_database_aside(image)
                return
            log.error(
                "%s: its files do not lead to position %s; keeping the database as it is, as a new transaction",
                self._db.name, self._state.pos,
            )  # fmt: skip
        commit = image.file_pages
        if commit:
            pages = PageMap(image.fd, image.page_size, InPlace(range(1, commit + 1), image.page_size))
            if known and image.page_size == self._state.page_size:
                self._capture(pages, commit, NO_WAL)
            else:
                self._table = PageTable()
                self._capture_whole(pages, commit)

    def _capture_whole(self, pages: PageMap, commit: int) -> None:
        """One transaction with every page, whatever the state before was."""
        before = self._state
        self._state = State(before.pos, 0, 0, before.timestamp)
        self._capture(pages, commit, NO_WAL)

    def _set_database_aside(self, image: Image) -> None:
        image.close()  # what is kept must stay as it is
        aside.keep_damaged(self._db, self._state)
        self._delete("checksums")
        self._state, self._table, self._stamp = State(), PageTable(), Stamp(0, 0, Pos(0, 0))

    # ---------------------------------------------------------------------------------------------------- saving

    def _sync_ltx(self) -> None:
        """Make LTX files durable: none is known to be that was written after the table was saved."""
        ranges = [item for item in self._ltx.ranges() if item[1] > max(self._stamp.pos.txid, self._synced)]
        if ranges:
            sync_files(self._ltx.path, [self._ltx.file(*item) for item in ranges])
            self._synced = self._state.pos.txid

    def _save(self) -> None:
        stamp = Stamp(self._state.page_size, self._state.commit, self._state.pos)
        if stamp == self._stamp or not stamp.pos.txid:
            return
        self._sync_ltx()
        pagetable.save(self._path / "checksums", stamp, self._table.take_changes(stamp.commit, whole=True))
        self._stamp = stamp
