"""Making files durable. Blocking: run in worker threads."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_MANY = 16  # files
_WAIT_BEFORE = 1  # of sync_file_range: wait for what is being written, start nothing, and tell of errors
_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class SyncFailed(OSError):
    """The disk could not store what had been written to a file.

    Linux tells it once, and takes those bytes for written from then on: the next sync succeeds without them, and they
    can be read for as long as they happen to stay in memory.
    """


def sync_fd(fd: int) -> None:
    """Make an open file's bytes durable.

    Raises:
        SyncFailed: they may never be.
    """
    try:
        os.fdatasync(fd)
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror) from error


def sync_file(path: Path) -> None:
    """Make a file's bytes durable. A file that is gone (dropped by retention, retracted) needs nothing.

    Raises:
        SyncFailed: they may never be.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        sync_fd(fd)
    finally:
        os.close(fd)


def check_file(path: Path) -> None:
    """Whether the kernel has failed to write a file's bytes and has told nobody yet. Does not write any.

    Raises:
        SyncFailed: it has.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _libc.sync_file_range(fd, 0, 0, _WAIT_BEFORE) != 0:
            code = ctypes.get_errno()
            if code not in (errno.ENOSYS, errno.EINVAL, errno.ESPIPE):
                raise SyncFailed(code, os.strerror(code))
    finally:
        os.close(fd)


def forget_cached(path: Path) -> None:
    """Have a file read from the disk again, not from what the kernel has of it in memory."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        with suppress(OSError):
            os.fdatasync(file.fileno())  # only what needs no writing is forgotten
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sync_directory(path: Path) -> None:
    """Make a directory's entries durable.

    Raises:
        SyncFailed: they may never be.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror) from error
    finally:
        os.close(fd)


def sync_files(directory: Path, paths: Sequence[Path]) -> None:
    """Make files of one directory, and their names, durable.

    Many are synced by one call for the whole file system: hundreds of small files, one by one, take longer than
    everything else that may be waiting to be written there. That call tells one caller of an error, and be it another
    program, so each file is asked.

    Raises:
        SyncFailed: some bytes may never be durable.
        OSError: the disk failed.
    """
    if len(paths) > _MANY:
        sync_file_system(directory)
        for path in paths:
            check_file(path)
        return
    for path in paths:
        sync_file(path)
    sync_directory(directory)


def sync_file_system(path: Path) -> None:
    """Make everything durable that was written to the file system of a directory.

    Raises:
        OSError: the disk failed.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(fd)
