"""Types shared by the format modules, and the reader they take."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

Data: TypeAlias = bytes | bytearray | memoryview

Reader: TypeAlias = int | Callable[[int, int], bytes]
"""A file descriptor, or a function ``(offset, length) -> bytes`` that returns fewer bytes only at the end."""


def is_page_size(size: int) -> bool:
    """Whether SQLite allows pages of that many bytes."""
    return 512 <= size <= 65536 and size & (size - 1) == 0


def read_at(reader: Reader, offset: int, length: int) -> bytes:
    """Return ``length`` bytes at ``offset``, fewer only at the end of the file; raises `OSError`."""
    if not isinstance(reader, int):
        return reader(offset, length)
    data = os.pread(reader, length, offset)
    if len(data) == length or not data:
        return data
    parts = [data]
    while (missing := length - sum(map(len, parts))) and (data := os.pread(reader, missing, offset + length - missing)):
        parts.append(data)
    return b"".join(parts)
