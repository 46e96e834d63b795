"""One daemon a data directory: an advisory lock on a file in it, held while the node lives.

Two daemons in one directory would both write the next transaction. The kernel drops the lock with the process, so
nothing is left to clean up after a crash. LiteFS ignores the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from litefs.errors import StoreError

FILE_NAME = "lock"


class DirectoryInUse(StoreError):
    """Another daemon works in this data directory."""


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the directory's lock; the directory is made if missing. Never waits.

    Raises:
        DirectoryInUse: another process has it.
        StoreError: the directory cannot be made or written to.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(data_dir / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _unusable(data_dir, error) from error
    try:
        _take(handle, data_dir)
        yield
    finally:
        os.close(handle)


def _unusable(data_dir: Path, error: OSError) -> StoreError:
    step = "make room, or set data.dir" if error.errno == errno.ENOSPC else "set data.dir"
    return StoreError(f"cannot use data directory {data_dir}: {error.strerror}", step)


def _take(handle: int, data_dir: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
        who = f"process {holder}" if holder else "another process"
        raise DirectoryInUse(f"data directory {data_dir} is in use by {who}", "stop it, or set data.dir") from None
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, b"%d\n" % os.getpid(), 0)
    except OSError as error:
        raise _unusable(data_dir, error) from error
