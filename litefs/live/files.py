"""Whole reads, writes and copies of open files: one system call may do less than it was asked to."""

from __future__ import annotations

import os

_PIECE = 1 << 20


def read_all(fd: int, length: int, offset: int) -> bytes:
    """Return that many bytes, fewer only at the end of the file. Raises `OSError`."""
    data = os.pread(fd, length, offset)
    if len(data) == length or not data:
        return data
    return data + read_all(fd, length - len(data), offset + len(data))


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write everything. Raises `OSError`."""
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        done += os.pwrite(fd, memoryview(data)[done:], offset + done)


def copy_all(source: int, target: int, length: int) -> None:
    """Copy the first bytes of a file, without passing them through this process where the kernel can.

    Stops early where the source ends. Raises `OSError`.
    """
    done = 0
    try:
        while done < length and (count := os.copy_file_range(source, target, length - done, done, done)):
            done += count
    except OSError:
        # EXDEV, EINVAL, ENOSYS, EOPNOTSUPP: not between these two. A real fault shows again below.
        pass
    while done < length and (data := os.pread(source, min(_PIECE, length - done), done)):
        write_all(target, data, done)
        done += len(data)
