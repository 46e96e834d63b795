"""Making files durable. Blocking: run in worker threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_PARALLEL = 8  # the file system commits its journal for all waiters at once


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

    Raises:
        OSError: the disk failed.
    """
    if len(paths) > _PARALLEL:
        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(sync_file, paths))
    else:
        for path in paths:
            sync_file(path)
    sync_directory(directory)
