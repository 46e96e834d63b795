"""SQLite's lock bytes, and open file description locks on them.

Unlike POSIX locks, which belong to the process, these belong to the open file: they conflict with SQLite's locks
even within one process, and closing another descriptor of the same file does not drop them.
"""

from __future__ import annotations

import errno
import fcntl
import struct
from typing import NamedTuple

PENDING_BYTE = 0x40000000
RESERVED_BYTE = PENDING_BYTE + 1
SHARED_FIRST = PENDING_BYTE + 2
SHARED_SIZE = 510

WAL_WRITE = 120
WAL_CKPT = 121
WAL_RECOVER = 122
WAL_READ0 = 123
WAL_READ1 = 124
WAL_READERS = 5
WAL_DMS = 128

_FLOCK = struct.Struct("@hhqqi0q")


class Holder(NamedTuple):
    """A lock that is in the way. ``pid`` is -1 for an open file description lock."""

    exclusive: bool
    start: int
    length: int
    pid: int


def try_lock(fd: int, start: int, length: int = 1, *, exclusive: bool) -> bool:
    """Take or change a lock without waiting; False when somebody else's is in the way.

    An exclusive lock needs a descriptor opened for writing, a shared one for reading. Raises `OSError`.
    """
    kind = fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _pack(kind, start, length))
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def unlock(fd: int, start: int, length: int = 1) -> None:
    """Release this open file's locks in a range; nothing happens where there are none. Raises `OSError`."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _pack(fcntl.F_UNLCK, start, length))


def probe(fd: int, start: int, length: int = 1, *, exclusive: bool = True) -> Holder | None:
    """Return one lock that would be in the way of `try_lock`, or None. Raises `OSError`."""
    kind = fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _pack(kind, start, length))
    found, _, at, size, pid = _FLOCK.unpack(answer)
    if found == fcntl.F_UNLCK:
        return None
    return Holder(found == fcntl.F_WRLCK, at, size, pid)


def _pack(kind: int, start: int, length: int) -> bytes:
    return _FLOCK.pack(kind, 0, start, length, 0)
