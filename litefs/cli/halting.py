"""The halt lock as a program on the same machine takes it: by opening ``NAME-lock``."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from litefs.errors import LitefsError
from litefs.sqlite.locks import try_lock

HALT_BYTE = 72  # what client libraries lock
_LOOK = 0.05  # seconds between two tries to lock it

_REASONS = {
    errno.EHOSTUNREACH: ("no primary can be reached", "try again when .primary names one"),
    errno.EBUSY: (
        "another node holds it, or applications keep the database locked on the primary",
        "try again later",
    ),
    errno.ETIMEDOUT: ("this node is too far behind the primary", "see .lag, and try again later"),
    errno.ENOENT: ("there is no such file", "is the path that of a database in a litefs mount?"),
}


@contextmanager
def halt_lock(database: str) -> Iterator[None]:
    """Hold the halt lock of a database inside the block, and keep other programs here that ask for it out.

    Args:
        database: its path in the mount.

    Raises:
        LitefsError: it could not be had; says why.
    """
    if not os.path.exists(database):
        raise LitefsError(f"database does not exist: {database}")
    try:
        fd = os.open(f"{database}-lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        reason, hint = _REASONS.get(error.errno or 0, (str(error.strerror), "see the log of the node"))
        raise LitefsError(f"cannot acquire the halt lock of {database}: {reason}", hint) from None
    try:
        while not try_lock(fd, HALT_BYTE, exclusive=True):
            time.sleep(_LOOK)
        yield
    finally:
        os.close(fd)
