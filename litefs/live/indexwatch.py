"""Watching wal-indexes: when does SQLite itself consider a captured transaction committed?

The writer shows it by moving mxFrame in the wal-index header, in memory that it shares with the page cache of the
mount, without telling anybody. So the client process looks, at once when it is told of a commit (by then SQLite is
mostly done: it needs about 20 us) and then ever more rarely. It reads through the mount, as any client would.
"""

from __future__ import annotations

import os
import select
import socket
import time
from dataclasses import dataclass, field

from litefs.errors import FormatError
from litefs.live.messages import receive, send
from litefs.sqlite.walindex import HEADER_SIZE, WalIndexHeader

FIRST_PAUSE = 50e-6  # seconds between the first look and the second; it grows by half each time
LONGEST_PAUSE = 0.5  # seconds between looks at a transaction that stays in doubt
LATE = 0.25  # seconds after which it is reported that a transaction is still not covered


@dataclass(slots=True)
class _Watch:
    path: str  # the -shm file in the mount
    frame: int
    salt: bytes
    txid: int
    due: float = 0.0
    pause: float = FIRST_PAUSE
    since: float = field(default_factory=time.monotonic)

    def is_same(self, other: _Watch) -> bool:
        return (self.frame, self.salt, self.txid) == (other.frame, other.salt, other.txid)


class IndexWatch:
    """What is looked for: the newest transaction of each database. Orders and reports go over one connection.

    Orders are ``("watch", name, path, frame, salt, txid)``, which may be repeated, and ``("forget", name)``. Reports
    are ``(name, txid, covered)``: once that it is covered, or, from `LATE` on, after each look that it is not.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._watches: dict[str, _Watch] = {}
        self._files: dict[str, int] = {}

    def run(self) -> None:
        """Until the other end closes the connection."""
        while True:
            readable, _, _ = select.select([self._sock], [], [], self._patience())
            if readable:
                order = receive(self._sock)
                if order is None:
                    return
                self._take(order)
            now = time.monotonic()
            for name, watch in list(self._watches.items()):
                if watch.due <= now:
                    self._look(name, watch)

    def _patience(self) -> float | None:
        """Seconds until something is due; None when nothing is watched."""
        if not self._watches:
            return None
        return max(0.0, min(watch.due for watch in self._watches.values()) - time.monotonic())

    def _take(self, order: tuple[object, ...]) -> None:
        kind, name, *details = order
        assert isinstance(name, str)
        if kind == "watch":
            watch = _Watch(*details)  # type: ignore[arg-type]
            known = self._watches.get(name)
            if known is not None and known.is_same(watch):
                watch.since = known.since
            self._watches[name] = watch
        else:
            self._watches.pop(name, None)
            self._close(name)

    def _look(self, name: str, watch: _Watch) -> None:
        if self._covers(name, watch):
            del self._watches[name]
            send(self._sock, (name, watch.txid, True))
        else:
            now = time.monotonic()
            if now - watch.since >= LATE:
                send(self._sock, (name, watch.txid, False))
            watch.due = now + watch.pause
            watch.pause = min(watch.pause * 1.5, LONGEST_PAUSE)

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
