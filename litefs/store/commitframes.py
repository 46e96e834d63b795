"""Which writes to a WAL complete a transaction, told by their shape: SQLite writes a frame as header and page."""

from __future__ import annotations

from litefs.sqlite.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, WalHeader, frame_size
from litefs.store import walchain

NOWHERE = -1


class CommitFrames:
    """The commit frames that are being written. Slots count frames from 0.

    Attributes:
        open: slot of a commit frame whose chain of checksums is not whole (yet); negative for none.
        mending: SQLite is about to mend that chain.
        overwritten: first slot of the transaction that is being written whose page was written over an earlier one;
            negative for none. From there on SQLite mends the chain when it commits.
    """

    def __init__(self) -> None:
        self.open = NOWHERE
        self.mending = False
        self.overwritten = NOWHERE
        self._announced = (NOWHERE, 0)  # slot and commit size of the frame header written last
        self._appended = NOWHERE  # slot whose header was written, but not yet all of its page

    def settled(self) -> None:
        """Nothing is open any more."""
        self.open, self.mending = NOWHERE, False

    def expect(self, slot: int, *, mending: bool = False) -> None:
        """A commit frame is there whose chain may become whole."""
        self.open, self.mending = slot, mending

    def forget(self) -> None:
        """What was written last does not count."""
        self.settled()
        self._announced = (NOWHERE, 0)
        self._appended = NOWHERE

    def _note(self, slot: int, within: int, data: bytes, size: int) -> None:
        """What a write says of the frame it begins in: SQLite appends one with its header, and overwrites it without.

        While there is an overwritten one, appended frames get neither salts nor checksums. That is so also after a
        savepoint was rolled back to before the first frame of the log, which then begins anew.
        """
        if within < FRAME_HEADER_SIZE:
            self._appended = slot
            if any(data[max(0, 8 - within) : FRAME_HEADER_SIZE - within]):
                self.overwritten = NOWHERE
        elif slot != self._appended and not 0 <= self.overwritten <= slot:
            self.overwritten = slot
        if within + len(data) >= size:
            self._appended = NOWHERE

    def stays_bare(self, slot: int) -> bool:
        """Whether a commit frame without salts and checksums remains so: SQLite mends only what comes after it.

        That is when a savepoint was rolled back after frames were overwritten, to before the first of them.
        """
        return self.overwritten > slot

    def completed(self, fd: int, header: WalHeader, offset: int, data: bytes) -> int:
        """Number of frames up to the commit frame that this write (already in the file) completes; 0 for none."""
        size = frame_size(header.page_size)
        slot, within = divmod(offset - WAL_HEADER_SIZE, size)
        self._note(slot, within, data, size)
        if within == 0 and len(data) == FRAME_HEADER_SIZE:
            return self._header_written(slot, int.from_bytes(data[4:8], "big"))
        if within == FRAME_HEADER_SIZE and len(data) == header.page_size:
            return self._page_written(fd, header, slot)
        return self._range_written(fd, header, offset, len(data))

    def _header_written(self, slot: int, commit: int) -> int:
        self._announced = (slot, commit)
        return slot + 1 if commit and slot == self.open else 0

    def _page_written(self, fd: int, header: WalHeader, slot: int) -> int:
        announced, commit = self._announced
        self._announced = (NOWHERE, 0)
        if announced != slot:
            commit = walchain.commit_size(fd, header, slot + 1)
        return slot + 1 if commit else 0

    def _range_written(self, fd: int, header: WalHeader, offset: int, length: int) -> int:
        """Writes of any other shape: SQLite splits one where its sync point lies, and the kernel where a page ends."""
        size = frame_size(header.page_size)
        first, within = divmod(offset - WAL_HEADER_SIZE, size)
        if within + length <= FRAME_HEADER_SIZE:
            return first + 1 if first == self.open and within + length == FRAME_HEADER_SIZE else 0
        complete = (offset + length - WAL_HEADER_SIZE) // size
        found = 0
        for slot in range(max(0, first), complete):
            found = slot + 1 if walchain.commit_size(fd, header, slot + 1) else found
        return found

    def filled_in(self, slot: int, length: int, end: int) -> int:
        """Content before the open commit frame may have come late: number of that frame, or 0.

        Args:
            slot: where the write began.
            length: bytes it wrote.
            end: frames that are captured. A write right after them begins another transaction, so it is the last
                chance for the open one.
        """
        if self.open < 0 or length == FRAME_HEADER_SIZE or slot > self.open:
            return 0
        found = self.open + 1
        if slot == end:
            self.settled()
        return found
