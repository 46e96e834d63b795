"""Capturing transactions from the write-ahead log of one database.

The truth is what the WAL file holds when the write arrives that completes a commit frame: SQLite rewrites frames in
place within a transaction, and it re-uses the slots of a transaction that was rolled back. So nothing is remembered
about frames; at commit the chain is read from the last captured frame on and verified. After it has overwritten a
frame SQLite writes headers without salts and checksums, up to and including the commit frame's, and then mends the
chain by writing headers once more, the commit frame's last: the transaction is complete with that.

It may leave a hole. When a savepoint is rolled back to before the first overwritten frame, frames that take the place
of earlier ones are not mended (seen with SQLite 3.40). SQLite does not notice until somebody has to recover the WAL.
Such a transaction is captured by what its frames say. Nothing from the hole on can be recovered from the WAL, so LTX
files are made durable with it, and it is folded soon.

Everything here runs in the trio thread without an await between looking and acting, except that the frames of a
large transaction are examined in a worker thread while its writer waits, holding SQLite's write lock.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from litefs.errors import FormatError
from litefs.sqlite.wal import (
    FRAME_HEADER_SIZE,
    WAL_HEADER_SIZE,
    WalHeader,
    frame_offset,
    frame_size,
    parse_frames,
    scan,
)
from litefs.store.transaction import PageMap, WALPart

if TYPE_CHECKING:
    from litefs.store.database import Database

INLINE_LIMIT = 1 << 20  # bytes of frames examined in the trio thread: well under a millisecond


@dataclass(slots=True)
class Chain:
    """Frames of one transaction, verified."""

    offsets: dict[int, int]  # page -> offset of its newest content in the WAL
    commit: int  # pages of the database afterwards
    checksum: tuple[int, int]  # running, after the commit frame


class ChainBroken(Exception):
    """The frames do not form a valid chain up to the commit frame."""


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
        self._announced = (-1, 0)  # slot and commit size of the frame header written last
        self._unmended = -1  # slot of a commit frame whose chain is still to be mended
        self._refused = False  # the commit frame of the transaction that is being written was refused
        self.holed = False  # the chain of checksums has a hole: recovery ends there, whatever follows

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
            for frame in scan(self._fd, self.header, self._end + 1, self._chain):
                if frame.commit:
                    self._end, self._chain = frame.number, frame.checksum

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
        self.header, self.end = None, 0

    def _read_header(self) -> None:
        try:
            self.header = WalHeader.parse(os.pread(self._fd, WAL_HEADER_SIZE, 0))
        except FormatError:
            self.header = None

    # ------------------------------------------------------------------------------------------------ the writes

    async def before_write(self, offset: int) -> None:
        """Settle what a write at this offset says about the transaction captured last.

        Raises:
            OSError: EIO when the write would overwrite a transaction that was already published, or belongs to one
                whose commit was refused.
        """
        if offset == 0:
            await self.before_restart()
        elif self.header is not None:
            self._check_refused(offset)
            slot = (offset - WAL_HEADER_SIZE) // frame_size(self.header.page_size)
            doubtful = self._db.publisher.in_doubt
            if slot >= self.end:
                if doubtful is not None:
                    self._db.publisher.accept()
            elif doubtful is not None and doubtful.wal_start <= slot:
                self.retract()
            else:
                raise OSError(errno.EIO, f"write to frame {slot + 1} of {self.path}, which is already committed")

    def _check_refused(self, offset: int) -> None:
        """A refused transaction stays refused until the next one begins.

        The kernel may pass one write on as two. When the second is refused, SQLite sees a short write, and writes the
        rest again: that must not succeed.
        """
        if self._refused and offset != self._offset(self.end):
            raise OSError(errno.EIO, f"{self.path}: the transaction was refused")
        self._refused = False

    async def before_restart(self) -> None:
        """The frames are about to be overwritten, cut off or deleted: their LTX files must be durable first.

        A transaction in doubt was accepted if and only if SQLite has checkpointed it: it restarts a WAL only then.
        """
        doubtful = self._db.publisher.in_doubt
        if doubtful is not None:
            if self._db.file_has(doubtful):
                self._db.publisher.accept()
            else:
                self.retract()
        await self._db.flush_ltx()

    def retract(self) -> None:
        """SQLite has discarded the transaction captured last."""
        captured = self._db.retract()
        self.end = captured.wal_start
        self._chain = self._checksum_at(self.end)

    def _checksum_at(self, end: int) -> tuple[int, int]:
        if self.header is None:
            return 0, 0
        if end == 0:
            return self.header.checksum
        header = os.pread(self._fd, FRAME_HEADER_SIZE, self._offset(end - 1))
        return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")

    def _offset(self, slot: int) -> int:
        assert self.header is not None
        return frame_offset(slot + 1, self.header.page_size)

    def restarted(self) -> None:
        """The file header was written, or the file emptied."""
        self._read_header()
        self.end = 0
        self._chain = self.header.checksum if self.header else (0, 0)
        self._announced, self._unmended, self._refused, self.holed = (-1, 0), -1, False, False

    def completed_commit(self, offset: int, data: bytes) -> int:
        """Number of frames up to the commit frame that this write (already in the file) completes; 0 for none."""
        if offset == 0:
            self.restarted()
            return 0
        if self.header is None:
            raise OSError(errno.EIO, f"{self.path} has no valid header")
        page_size = self.header.page_size
        slot, within = divmod(offset - WAL_HEADER_SIZE, frame_size(page_size))
        if within == 0 and len(data) == FRAME_HEADER_SIZE:
            return self._header_written(slot, int.from_bytes(data[4:8], "big"))
        if within == FRAME_HEADER_SIZE and len(data) == page_size:
            return self._page_written(slot)
        return self._range_written(offset, len(data))

    def _header_written(self, slot: int, commit: int) -> int:
        self._announced = (slot, commit)
        return slot + 1 if commit and slot == self._unmended else 0

    def _page_written(self, slot: int) -> int:
        announced, commit = self._announced
        self._announced, self._unmended = (-1, 0), -1
        if announced != slot:
            commit = self._commit_field(slot)
        return slot + 1 if commit else 0

    def _commit_field(self, slot: int) -> int:
        return int.from_bytes(os.pread(self._fd, 4, self._offset(slot) + 4), "big")

    def _range_written(self, offset: int, length: int) -> int:
        """Writes of any other shape: SQLite splits one where its sync point lies, and the kernel where a page ends."""
        assert self.header is not None
        size = frame_size(self.header.page_size)
        first, within = divmod(offset - WAL_HEADER_SIZE, size)
        if within + length <= FRAME_HEADER_SIZE:
            return first + 1 if first == self._unmended and within + length == FRAME_HEADER_SIZE else 0
        self._unmended = -1
        complete = (offset + length - WAL_HEADER_SIZE) // size
        found = 0
        for slot in range(first, complete):
            found = slot + 1 if self._commit_field(slot) else found
        return found

    async def capture(self, end: int) -> None:
        """Capture the transaction whose commit frame is frame number `end`.

        Raises:
            OSError: it could not be captured; the commit frame is no longer valid in the file.
        """
        if self.header is None:
            raise OSError(errno.EIO, f"{self.path} has no valid header")
        if not any(os.pread(self._fd, FRAME_HEADER_SIZE - 8, self._offset(end - 1) + 8)):
            self._unmended = end - 1
            return
        try:
            chain = await self._read_chain(end, mended=self._unmended == end - 1)
        except ChainBroken as error:
            self._refuse(end)
            raise OSError(errno.EIO, f"{self.path}: {error}") from None
        part = WALPart(
            self._offset(self.end), self._offset(end) - self._offset(self.end), self.header.salt1, self.header.salt2
        )
        try:
            pages = PageMap(self._fd, self.header.page_size, chain.offsets)
            await self._db.capture(pages, chain.commit, part, (self.end, end))
        except BaseException:
            self._refuse(end)
            raise
        self.end, self._chain, self._unmended = end, chain.checksum, -1
        if self.holed:
            self._db.store.wal_grown.set()

    async def _read_chain(self, end: int, *, mended: bool) -> Chain:
        verify = self._verify_mended if mended else self._verify
        if self._offset(end) - self._offset(self.end) <= INLINE_LIMIT:
            return verify(end)
        return await trio.to_thread.run_sync(verify, end)

    def _verify(self, end: int) -> Chain:
        header = self.header
        assert header is not None
        size = frame_size(header.page_size)
        running, commit, offsets = self._chain, 0, {}
        batch = max(1, INLINE_LIMIT // size)
        for first in range(self.end, end, batch):
            count = min(batch, end - first)
            frames = parse_frames(os.pread(self._fd, count * size, self._offset(first)), header, first + 1, running)
            if len(frames) != count:
                raise ChainBroken(f"frame {first + len(frames) + 1} breaks the checksum chain")
            running, commit = frames[-1].checksum, frames[-1].commit
            for frame in frames:
                offsets[frame.pgno] = self._offset(frame.number - 1) + FRAME_HEADER_SIZE
        return Chain(offsets, commit, running)

    def _verify_mended(self, end: int) -> Chain:
        try:
            return self._verify(end)
        except ChainBroken:
            chain = self._read_holed(end)
            self.holed = True
            return chain

    def _read_holed(self, end: int) -> Chain:
        """The frames by their page numbers alone: those of a hole have neither salts nor checksums."""
        assert self.header is not None
        offsets, commit = {}, 0
        for slot in range(self.end, end):
            head = os.pread(self._fd, FRAME_HEADER_SIZE, self._offset(slot))
            if head[8:16] != self.header.salt and any(head[8:]):
                raise ChainBroken(f"frame {slot + 1} is not of this WAL")
            offsets[int.from_bytes(head[:4], "big")] = self._offset(slot) + FRAME_HEADER_SIZE
            commit = int.from_bytes(head[4:8], "big")
        return Chain(offsets, commit, self._checksum_at(end))

    def _refuse(self, end: int) -> None:
        """Make sure that a commit frame whose write is refused can never be taken for one."""
        os.pwrite(self._fd, bytes(FRAME_HEADER_SIZE), self._offset(end - 1))
        self._announced, self._unmended, self._refused = (-1, 0), -1, True
