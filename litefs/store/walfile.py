"""The WAL file of one database, and how far it has been captured."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from litefs.errors import FormatError
from litefs.sqlite.wal import WAL_HEADER_SIZE, WalHeader, frame_offset, frame_size
from litefs.store import walchain
from litefs.store.walchain import Chain, ChainBroken
from litefs.store.walpages import WALPages

if TYPE_CHECKING:
    from litefs.store.database import Database


class WALFile:
    """The file, its header and the frames that are captured: those up to `end`, which is a commit frame.

    Attributes:
        path: of the file.
        header: None while there is none that is valid.
        behind: the daemon itself has appended transactions that `end` does not count yet.
        syncing: how many syncs by applications are under way.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self.path = db.path / "wal"
        self._fd = -1
        self.header: WalHeader | None = None
        self._end = 0
        self.behind = False
        self._chain = (0, 0)  # running checksum after frame `end`
        self._pages = WALPages()
        self.syncing = 0

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

    def is_checkpoint(self, pages: range) -> bool:
        """Whether a write of these pages to the database file can be a checkpoint."""
        return self.end > 0 and pages in self._pages

    def checkpointed(self, pages: range, data: bytes) -> None:
        """Whole pages are about to be written to the database file while there is a WAL."""
        self._pages.checkpointed(pages, data, self._db.page_size, self._db.table)
