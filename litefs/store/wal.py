"""Capturing transactions from the write-ahead log of one database.

The truth is what the WAL file holds when the write arrives that completes a commit frame: SQLite rewrites frames in
place within a transaction, and it re-uses the slots of a transaction that was rolled back. So nothing is remembered
about frames; at commit the chain is read from the last captured frame on and verified. After it has overwritten a
frame SQLite writes headers without salts and checksums, up to and including the commit frame's, and then mends the
chain by writing headers once more, the commit frame's last: the transaction is complete with that. It may leave a
hole: when a savepoint is rolled back to before the first overwritten frame, frames that take the place of earlier ones
are not mended, and perhaps not the commit frame either. SQLite does not notice as long as nobody has to recover the
WAL; whoever does loses the transaction. Such a transaction is captured by what its frames say. The hole is closed
before a first connection reads the WAL by its checksums: not earlier, because those who are connected go on from the
old ones. Until then nothing behind the hole can be recovered from the WAL, so the LTX files must be durable, and it is
folded soon. Any other commit frame that does not continue the chain is none to SQLite either, and is let pass; it is
looked at again when something before it changes.

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

from litefs.sqlite.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE
from litefs.store import capturing, doubt, position, walchain
from litefs.store.commitframes import CommitFrames
from litefs.store.transaction import PageMap, WALPart
from litefs.store.walchain import Chain, ChainBroken, Sum
from litefs.store.walfile import WALFile
from litefs.store.walview import capture_view

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


class WAL(WALFile):
    """The WAL file behind the mount, and the capture of what is written to it."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._commits = CommitFrames()
        self._refused = False  # the commit frame of the transaction that is being written was refused
        self._hole: tuple[int, Sum] | None = None  # frames before it, and the running checksum after them
        self._bare: dict[int, Sum] = {}  # commit frame without checksums -> the one that SQLite has gone on from
        self._overwritten: Overwritten | None = None

    def _forget(self) -> None:
        super()._forget()
        self._commits.forget()
        self._refused = False
        self._overwritten = None
        self._hole = None
        self._bare.clear()

    @property
    def holed(self) -> bool:
        """Whether the chain of checksums has a hole: recovery ends there, whatever follows."""
        return self._hole is not None

    async def close_hole(self) -> None:
        """Nobody is connected, and one who connects is about to read the WAL by its checksums.

        Raises:
            OSError: the disk failed; that one must not go on.
        """
        if self._hole is None or self.header is None:
            return
        start, running = self._hole
        if start < self.end and walchain.checksum_after(self._fd, self.header, start) == running:
            args = self._fd, self.header, start, running, self.end
            self._chain = await trio.to_thread.run_sync(walchain.close_hole, *args)
            self._hole = None
            self._bare.clear()
            log.info("%s: closed a hole that SQLite had left in the WAL after frame %d", self._db.name, start)

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
        await capture_view(self._db, self._fd, self.header, set(), chain.end if chain else 0)
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
            self._chain = self._checksum_after(self.end)

    def _checksum_after(self, number: int) -> Sum:
        assert self.header is not None
        return self._bare.get(number) or walchain.checksum_after(self._fd, self.header, number)

    # ------------------------------------------------------------------------------------------------- capturing

    async def capture(self, limit: int | None) -> None:
        """Capture the transactions up to frame `limit`, or as far as SQLite would find them committed.

        Raises:
            OSError: they could not be captured; their commit frame is no longer valid in the file.
        """
        assert self.header is not None
        if limit is not None and not any(os.pread(self._fd, 16, self._offset(limit - 1) + 8)):
            self._commits.expect(limit - 1, mending=True)
            if not self._commits.stays_bare(limit - 1):
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
            last = max(limit, self._commits.overwritten)
            chain = walchain.read_holed(self._fd, self.header, self.end, limit, last)
            self._hole = self._hole or (self.end, self._chain)
            if last > limit:
                self._bare[limit] = chain.checksum
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
        frames = self.end, chain.end
        await capture_view(self._db, self._fd, self.header, set(chain.offsets), chain.end, part, frames)
        return True

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
        self._chain = self._checksum_after(self.end)
        self._commits.forget()
        try:
            if overwritten.offset < WAL_HEADER_SIZE:
                self._chain = self.header.checksum
            try:
                chain = walchain.read_chain(self._fd, self.header, self.end, self._chain)
            except ChainBroken:
                chain = None
            pages = overwritten.pages | set(chain.offsets if chain else ())
            await capture_view(self._db, self._fd, self.header, pages, chain.end if chain else self.end)
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
            await capture_view(self._db, self._fd, self.header, lost, 0)
            log.warning(
                "%s: the WAL went before it was checkpointed: %d pages are as before; continuing at %s",
                db.name, len(lost), db.pos,
            )  # fmt: skip
