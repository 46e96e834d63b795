"""Watching wal-indexes: when does SQLite itself consider a captured transaction committed?

The writer shows it by moving mxFrame in the wal-index header, in memory that it shares with the page cache of the
mount, without telling anybody. So one thread of the client process looks, soon after each commit and then ever more
rarely. It reads through the mount, as any client would.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from litefs.errors import FormatError
from litefs.sqlite.walindex import HEADER_SIZE, WalIndexHeader

FIRST_LOOK = 60e-6  # seconds after the commit frame's write was answered; SQLite needs about 20 us
LONGEST_PAUSE = 0.5  # seconds between looks at a transaction that stays in doubt


@dataclass(slots=True)
class _Watch:
    path: str  # the -shm file in the mount
    frame: int
    salt: bytes
    accept: Callable[[], None]
    due: float
    pause: float = FIRST_LOOK


class IndexWatch:
    """The thread and what it looks for; one entry a database, the newest transaction."""

    def __init__(self) -> None:
        self._watches: dict[str, _Watch] = {}
        self._files: dict[str, int] = {}
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._gone: set[str] = set()  # wal-indexes whose file is to be closed, which only the thread may do

    def watch(self, name: str, path: str, frame: int, salt: bytes, accept: Callable[[], None]) -> None:
        """Call `accept` (in the watching thread) once the wal-index at `path` covers `frame` of the WAL with `salt`."""
        with self._wake:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wal-index watch", daemon=True)
                self._thread.start()
            self._watches[name] = _Watch(path, frame, salt, accept, time.monotonic() + FIRST_LOOK)
            self._wake.notify()

    def forget(self, name: str) -> None:
        """The wal-index is gone, or the transaction settled otherwise."""
        with self._wake:
            self._watches.pop(name, None)
            self._gone.add(name)
            self._wake.notify()

    # ----------------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        while True:
            with self._wake:
                gone, self._gone = self._gone, set()
                now = time.monotonic()
                due = [(name, watch) for name, watch in self._watches.items() if watch.due <= now]
                if not due and not gone:
                    soonest = min((watch.due for watch in self._watches.values()), default=None)
                    self._wake.wait(None if soonest is None else soonest - now)
                    continue
            for name in gone:
                self._close(name)
            for name, watch in due:
                self._look(name, watch)

    def _look(self, name: str, watch: _Watch) -> None:
        if self._covers(name, watch):
            with self._wake:
                if self._watches.get(name) is watch:
                    del self._watches[name]
            watch.accept()
        else:
            watch.pause = min(watch.pause * 1.5, LONGEST_PAUSE)
            watch.due = time.monotonic() + watch.pause

    def _covers(self, name: str, watch: _Watch) -> bool:
        try:
            fd = self._files.get(name)
            if fd is None:
                fd = self._files[name] = os.open(watch.path, os.O_RDONLY | os.O_CLOEXEC)
            return covers(os.pread(fd, HEADER_SIZE, 0), watch.frame, watch.salt)
        except OSError:
            self._close(name)
            return False

    def _close(self, name: str) -> None:
        fd = self._files.pop(name, None)
        if fd is not None:
            os.close(fd)


def covers(header: bytes, frame: int, salt: bytes) -> bool:
    """Whether a wal-index header covers a frame of the WAL with this salt."""
    try:
        index = WalIndexHeader.parse(header)
    except FormatError:
        return False  # being written this moment, or not there yet
    return index.salt == salt and index.mx_frame >= frame
