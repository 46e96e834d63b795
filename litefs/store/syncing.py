"""Making files durable. Blocking: run in worker threads."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

_MANY = 16  # files
_libc = ctypes.CDLL(None, use_errno=True)


def sync_file(path: Path) -> None:
    """Make a file's bytes durable. A file that is gone (dropped by retention, retracted) needs nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Make a directory's entries durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_files(directory: Path, paths: Sequence[Path]) -> None:
    """Make files of one directory, and their names, durable.

    Many are synced by one call for the whole file system: hundreds of small files, one by one, take longer than
    everything else that may be waiting to be written there.

    Raises:
        OSError: the disk failed.
    """
    if len(paths) > _MANY:
        sync_file_system(directory)
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
