"""Capturing transactions from the write-ahead log of one database.

The truth is what the WAL file holds when the write arrives that completes a commit frame: SQLite rewrites frames in
place within a transaction, and it re-uses the slots of a transaction that was rolled back. So nothing is remembered
about frames; at commit the chain is read from the last captured frame on and verified. After it has overwritten a
frame SQLite writes headers without salts and checksums, up to and including the commit frame's, and then mends the
chain by writing headers once more, the commit frame's last: the transaction is complete with that. It may leave a
hole: when a savepoint is rolled back to before the first overwritten frame, frames that take the place of earlier ones
are not mended. SQLite does not notice as long as nobody has to recover the WAL. Such a transaction is captured by what
its frames say, and the WAL is folded soon, since nothing behind the hole can be recovered from it: until then the LTX
files must be durable. Any other commit frame that does not continue the chain is none to SQLite either, and is let
pass; it is looked at again when something before it changes.

After a crash of the machine (a real one, or one that a test plays) SQLite may find fewer frames valid than were
captured, and go on from there. Then the database is not where its LTX files say. Whoever takes committed frames away,
by overwriting, cutting or deleting them, gets a transaction that says so: its pages are those of the lost frames,
with the content that SQLite sees from then on. In normal work the database file has all of it by then and there is
nothing to say.

Everything here runs in the trio thread without an await between looking and acting, except that the frames of a
large transaction are examined in a worker thread while its writer waits, holding SQLite's write lock.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from litefs.errors import FormatError
from litefs.sqlite.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, WalHeader, frame_offset, frame_size
from litefs.store import capturing, doubt, position, walchain
from litefs.store.commitframes import CommitFrames
from litefs.store.sqlitefile import committed_size
from litefs.store.transaction import NO_WAL, InPlace, PageMap, WALPart
from litefs.store.walchain import Chain, ChainBroken
from litefs.store.walpages import WALPages

if TYPE_CHECKING:
    from litefs.store.database import Database

log = logging.getLogger(__name__)

INLINE_LIMIT = 1 << 20  # bytes of frames examined in the trio thread: well under a millisecond


@dataclass(slots=True)
class Overwritten:
    """A write that takes committed frames away, while it is under way."""

    base: int  # the frames before it are as they were
    pages: set[int]  # of the frames that are lost
    end: int  # frames that were committed before
    chain: tuple[int, int]
    offset: int
    bytes: bytes  # what was there


class WAL:
    """The WAL file behind the mount, as far as it has been captured."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.path = db.path / "wal"
        self._fd = -1
        self.header: WalHeader | None = None
        self._end = 0  # frames captured: the last is a commit frame
        self.behind = False  # the daemon itself has appended transactions that `end` does not count yet
        self._chain = (0, 0)  # running checksum after frame `end`
        self._commits = CommitFrames()
        self._refused = False  # the commit frame of the transaction that is being written was refused
        self.holed = False  # the chain of checksums has a hole: recovery ends there, whatever follows
        self._overwritten: Overwritten | None = None
        self._pages = WALPages()
        self.syncing = 0  # syncs by applications that are under way

    # -------------------------------------------------------------------------------------------------- the file

    @property
    def exists(self) -> bool:
        """Whether there is a WAL file."""
        return self._fd >= 0

    @property
    def fd(self) -> int:
        """Descriptor of the backing file, for reading and syncing; -1 when there is no WAL."""
        return self._fd

    @property
    def last_offset(self) -> int:
        """Where the last captured frame begins in the file, in bytes."""
        return self._offset(self.end - 1)

    @property
    def end_offset(self) -> int:
        """Where the last captured transaction ends in the file, in bytes."""
        return self._offset(self.end) if self.header is not None and self.end else 0

    @property
    def end(self) -> int:
        """Number of frames that are captured; the last one is a commit frame."""
        if self.behind:
            self._catch_up()
        return self._end

    @end.setter
    def end(self, value: int) -> None:
        self._end, self.behind = value, False

    def _catch_up(self) -> None:
        """Count what the daemon itself has appended: it belongs to the position."""
        self.behind = False
        if self.header is not None:
            try:
                chain = walchain.read_chain(self._fd, self.header, self._end, self._chain)
            except ChainBroken:
                return
            self._move(chain)

    def _move(self, chain: Chain) -> None:
        self.end, self._chain = chain.end, chain.checksum
        self._pages.add(chain.offsets)

    def create(self) -> None:
        """Make the (empty) file; one that exists is kept."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._db.directory_changed()

    def load(self) -> None:
        """Take over the file that is on disk, if any, as holding nothing that is not captured."""
        if self.path.exists():
            self.create()
            self.restarted()
            self.behind = True

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._forget()
        self.header = None

    def _forget(self) -> None:
        self.end, self._chain = 0, (0, 0)
        self._commits.forget()
        self._refused = False
        self._overwritten = None
        self.holed = False
        self._pages.clear()

    def restarted(self) -> None:
        """The file header was written, or the file emptied."""
        self._forget()
        try:
            self.header = WalHeader.parse(os.pread(self._fd, WAL_HEADER_SIZE, 0))
            self._chain = self.header.checksum
        except FormatError:
            self.header = None

    def _offset(self, slot: int) -> int:
        assert self.header is not None
        return frame_offset(slot + 1, self.header.page_size)

    def _slot(self, offset: int) -> int:
        assert self.header is not None
        return max(0, offset - WAL_HEADER_SIZE) // frame_size(self.header.page_size)

    # ------------------------------------------------------------------------------------------------ the writes

    async def before_write(self, offset: int, data: bytes) -> None:
        """Settle what a write says about the transactions captured so far.

        Raises:
            OSError: the write must not happen.
        """
        if offset < WAL_HEADER_SIZE and self._changes(offset, data[: WAL_HEADER_SIZE - offset]):
            await self.before_restart()
        elif self.header is not None:
            self._check_refused(offset)
            slot = self._slot(offset)
            if slot >= self.end:
                self._db.publisher.accept()  # SQLite goes on after what was captured
            elif self._changes(offset, data):
                self._discard(slot, offset, len(data))

    def _check_refused(self, offset: int) -> None:
        """A refused transaction stays refused until the next one begins.

        The kernel may pass one write on as two. When the second is refused, SQLite sees a short write, and writes the
        rest again: that must not succeed.
        """
        if self._refused and offset != self._offset(self.end):
            raise OSError(errno.EIO, f"{self.path}: the transaction was refused")
        self._refused = False

    def _discard(self, slot: int, offset: int, length: int) -> None:
        """Captured frames from this one on do not count for SQLite."""
        if self._db.publisher.in_doubt is not None:
            self.retract()
        if slot < self.end:
            self._overwrite(slot, offset, length)

    def _changes(self, offset: int, data: bytes) -> bool:
        return os.pread(self._fd, len(data), offset) != data

    def _overwrite(self, slot: int, offset: int, length: int) -> None:
        """Committed frames are about to go: only what is before them still counts."""
        assert self.header is not None
        base = walchain.boundary(self._fd, self.header, slot)
        pages = walchain.pages_between(self._fd, self.header, base, self.end)
        before = os.pread(self._fd, length, offset)
        self._overwritten = Overwritten(base, pages, self.end, self._chain, offset, before)

    async def after_write(self, offset: int, data: bytes) -> None:
        """A write is in the file: capture the transaction that it completes.

        Raises:
            OSError: it could not be captured; the commit frame is no longer valid in the file.
        """
        if self._overwritten is not None:
            await self._heal(self._overwritten)
        elif offset < WAL_HEADER_SIZE and (self.header is None or self._header_changed()):
            self.restarted()
            await self._look_behind_header()
        elif self.header is not None:
            if end := self._commits.completed(self._fd, self.header, offset, data):
                await self.capture(end)
            elif end := self._commits.filled_in(self._slot(offset), len(data), self.end):
                with contextlib.suppress(ChainBroken):
                    await self._capture_chain(end)

    def _header_changed(self) -> bool:
        assert self.header is not None
        return os.pread(self._fd, WAL_HEADER_SIZE, 0) != self.header.encode()

    async def _look_behind_header(self) -> None:
        """Frames may be there already: a program copies a WAL, or disk writes arrive in any order."""
        if self.header is not None and os.pread(self._fd, 8, WAL_HEADER_SIZE + 8) == self.header.salt:
            await self.capture(None)

    async def settle(self) -> None:
        """A commit frame that was not explained is looked at again.

        Raises:
            OSError: it is one, and could not be captured.
        """
        if self._commits.open >= 0 and self.header is not None:
            await self.capture(None)

    async def adopt(self) -> None:
        """The database file was made by other means than SQLite's: capture it, with what the WAL holds.

        Raises:
            OSError: what the disk says.
        """
        chain = None
        if self.header is not None:
            with contextlib.suppress(ChainBroken):
                chain = walchain.read_chain(self._fd, self.header, 0, self.header.checksum)
        await self._capture_view(set(), chain.end if chain else 0)
        if chain is not None:
            self._move(chain)

    async def before_restart(self, *, own: bool = False) -> None:
        """The frames are about to be overwritten, cut off or deleted: their LTX files must be durable first.

        A transaction in doubt was accepted if and only if SQLite has checkpointed it: it restarts a WAL only then.

        Args:
            own: the daemon itself does it.

        Raises:
            OSError: what the frames held would be lost.
        """
        doubtful = self._db.publisher.in_doubt
        if doubtful is not None:
            if doubt.is_in_file(self._db, doubtful):
                self._db.publisher.accept()
            else:
                self.retract()
        if not own and self.end:
            await self._leave_to_file()
        await self._db.disk.flush()

    def retract(self) -> None:
        """SQLite has discarded the transaction captured last."""
        captured = position.retract(self._db)
        self._commits.expect(self.end - 1)  # its last frame may become valid after all
        self.end = captured.wal_start
        if self.header is not None:
            self._chain = walchain.checksum_after(self._fd, self.header, self.end)

    # ------------------------------------------------------------------------------------------------- capturing

    async def capture(self, limit: int | None) -> None:
        """Capture the transactions up to frame `limit`, or as far as SQLite would find them committed.

        Raises:
            OSError: they could not be captured; their commit frame is no longer valid in the file.
        """
        assert self.header is not None
        if limit is not None and not any(os.pread(self._fd, 16, self._offset(limit - 1) + 8)):
            self._commits.expect(limit - 1, mending=True)
            return
        try:
            await self._capture_chain(limit)
        except ChainBroken as error:
            if limit is not None:
                await self._not_explained(limit, error)

    async def _capture_chain(self, limit: int | None) -> None:
        assert self.header is not None
        chain = await self._read_chain(limit)
        part = WALPart(
            self._offset(self.end),
            self._offset(chain.end) - self._offset(self.end),
            self.header.salt1,
            self.header.salt2,
        )
        try:
            done = await self._capture(chain, part)
        except BaseException:
            self._refuse(chain.end)
            raise
        if done:
            self._move(chain)
            if limit is None or chain.end >= limit:
                self._commits.settled()
            else:
                self._commits.expect(limit - 1)
            if self.holed:
                self._db.store.wal_grown.set()

    async def _read_chain(self, limit: int | None) -> Chain:
        if limit is not None and self._offset(limit) - self._offset(self.end) <= INLINE_LIMIT:
            return self._verify(limit)
        return await trio.to_thread.run_sync(self._verify, limit)

    def _verify(self, limit: int | None) -> Chain:
        assert self.header is not None
        try:
            return walchain.read_chain(self._fd, self.header, self.end, self._chain, limit)
        except ChainBroken:
            if limit is None or not self._commits.mending or self._commits.open != limit - 1:
                raise
            chain = walchain.read_holed(self._fd, self.header, self.end, limit)
            self.holed = True
            return chain

    async def _capture(self, chain: Chain, part: WALPart) -> bool:
        """Whether it could be done: without a database file it makes no sense yet."""
        assert self.header is not None
        state = self._db.state
        missing = () if chain.commit <= state.commit else range(state.commit + 1, chain.commit + 1)
        if state.page_size == self.header.page_size and all(pgno in chain.offsets for pgno in missing):
            pages = PageMap(self._fd, self.header.page_size, chain.offsets)
            await capturing.capture(self._db, pages, chain.commit, part, (self.end, chain.end))
            return True
        if state.commit == 0 and not os.path.getsize(self._db.file):
            return False
        await self._capture_view(set(chain.offsets), chain.end, part, (self.end, chain.end))
        return True

    async def _capture_view(
        self, pages: set[int], end: int, part: WALPart = NO_WAL, frames: tuple[int, int] = (0, 0)
    ) -> None:
        """Capture pages with the content that they have for SQLite: the first `end` frames over the database file."""
        header, state = self.header, self._db.state
        found = committed_size_at(self._db.file)
        page_size, commit = found or (state.page_size, 0)
        if header is not None and end:
            page_size, commit = header.page_size, walchain.commit_size(self._fd, header, end)
        elif found is None and state.commit:
            log.error("%s: SQLite finds no database any more, and its LTX files end with one", self._db.name)
            return
        known = state.commit if page_size == state.page_size else 0
        wanted = pages | set(range(known + 1, commit + 1)) if known else range(1, commit + 1)
        fd = os.open(self._db.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            over = walchain.locate(self._fd, header, end, wanted) if header is not None else {}
            offsets = InPlace(wanted, page_size)
            await capturing.capture(self._db, PageMap(fd, page_size, offsets, self._fd, over), commit, part, frames)
        finally:
            os.close(fd)

    def _refuse(self, end: int) -> None:
        """Make sure that a commit frame whose write is refused can never be taken for one."""
        os.pwrite(self._fd, bytes(FRAME_HEADER_SIZE), self._offset(end - 1))
        self._commits.forget()
        self._refused = True

    async def _not_explained(self, end: int, error: ChainBroken) -> None:
        """A commit frame does not continue the chain: none to SQLite."""
        assert self.header is not None
        self._commits.expect(end - 1)
        try:
            chain = walchain.read_chain(self._fd, self.header, 0, self.header.checksum, end)
        except ChainBroken:
            chain = None
        if chain is not None and chain.end > self.end:  # it is one: then what was remembered of the log is wrong
            log.error("%s: lost track of the WAL at frame %d; capturing all of it", self._db.name, self.end)
            self._forget()
            self._chain = self.header.checksum
            await self.capture(chain.end)
        else:
            log.debug("%s: %s: not a commit", self._db.name, error)

    # --------------------------------------------------------------------------------- what SQLite no longer sees

    async def _heal(self, overwritten: Overwritten) -> None:
        """Committed frames were overwritten: SQLite has found them invalid. Capture what is there without them."""
        self._overwritten = None
        assert self.header is not None
        self.end = overwritten.base
        self._chain = walchain.checksum_after(self._fd, self.header, self.end)
        self._commits.forget()
        try:
            if overwritten.offset < WAL_HEADER_SIZE:
                self._chain = self.header.checksum
            try:
                chain = walchain.read_chain(self._fd, self.header, self.end, self._chain)
            except ChainBroken:
                chain = None
            pages = overwritten.pages | set(chain.offsets if chain else ())
            await self._capture_view(pages, chain.end if chain else self.end)
            await self._db.disk.flush()
        except BaseException:
            os.pwrite(self._fd, overwritten.bytes, overwritten.offset)
            self.end, self._chain = overwritten.end, overwritten.chain
            raise
        if chain is not None:
            self._move(chain)
        self._commits.expect(overwritten.end - 1)  # what was lost may come back
        log.warning(
            "%s: SQLite discarded committed frames after frame %d of the WAL; continuing at %s",
            self._db.name, overwritten.base, self._db.pos,
        )  # fmt: skip

    async def _leave_to_file(self) -> None:
        """All frames go: from now on the database file alone counts. In normal work it has everything."""
        db = self._db
        lost = self._pages.missing(db.file, db.page_size, db.commit, db.table)
        if lost:
            await self._capture_view(lost, 0)
            log.warning(
                "%s: the WAL went before it was checkpointed: %d pages are as before; continuing at %s",
                db.name, len(lost), db.pos,
            )  # fmt: skip

    # ----------------------------------------------------------------------------------------------- checkpoints

    def is_checkpoint(self, pages: range) -> bool:
        """Whether a write of these pages to the database file can be a checkpoint."""
        return self.end > 0 and pages in self._pages

    def checkpointed(self, pages: range, data: bytes) -> None:
        """Whole pages are about to be written to the database file while there is a WAL."""
        self._pages.checkpointed(pages, data, self._db.page_size, self._db.table)


def committed_size_at(path: os.PathLike[str]) -> tuple[int, int] | None:
    """(page size, pages) of a database file, by its header as SQLite reads it; None when it is empty or none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return committed_size(fd)
    finally:
        os.close(fd)
