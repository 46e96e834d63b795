"""The shared memory of a wal-index, mapped from its ``-shm`` file.

On a mount that this very process serves, a page fault in the mapping waits for the FUSE server, which needs the GIL.
So the mapping is only touched by ``ctypes.memmove``, which releases the GIL for the call. It is made by libc's mmap:
Python's own mmap object duplicates the descriptor and, closing it, would drop the process's locks on the file.
"""

from __future__ import annotations

import ctypes
import os

import numpy as np

from litefs.sqlite.walindex import BLOCK_SIZE, HASH_SLOTS

_PROT_READ_WRITE = 3
_MAP_SHARED = 1
_MAP_FAILED = ctypes.c_void_p(-1).value
_HASH_BYTES = 2 * HASH_SLOTS
_UNIT = max(BLOCK_SIZE, os.sysconf("SC_PAGESIZE"))

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class SharedMemory:
    """An open ``-shm`` file as a `litefs.sqlite.walindex.Index`. The descriptor stays the caller's.

    Valid while a SQLite connection of this process has the wal-index in use: nobody cuts the file then. Touching a
    mapping whose file was cut or whose mount is gone kills the process (SIGBUS): unmap before unmounting.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._units: list[int] = []
        self._scratch = ctypes.create_string_buffer(_UNIT)

    def read(self, offset: int, length: int, /) -> bytes:
        """Copy bytes that lie within one block; nothing where the file is too short for the block."""
        if not self._reach(offset, extend=False):
            return b""
        ctypes.memmove(self._scratch, self._address(offset), length)
        return ctypes.string_at(self._scratch, length)

    def write(self, offset: int, data: bytes, /) -> None:
        """Overwrite bytes that lie within one block, adding it to the file if need be.

        Writes by successive calls become visible to other processes in that order: taking the GIL back after a copy
        is a memory barrier. In a hash table that readers search meanwhile only the words that differ are stored,
        each by one aligned 4-byte store, so that no reader sees half a slot.
        """
        self._reach(offset, extend=True)
        if offset % BLOCK_SIZE >= BLOCK_SIZE - _HASH_BYTES:
            self._write_slots(offset, data)
        else:
            ctypes.memmove(self._address(offset), data, len(data))

    def unmap(self) -> None:
        """Give the address space back. Idempotent."""
        while self._units:
            _libc.munmap(self._units.pop(), _UNIT)

    def _write_slots(self, offset: int, data: bytes) -> None:
        head, tail = offset % 4, -(offset + len(data)) % 4
        offset -= head
        before = self.read(offset, head + len(data) + tail)
        data = before[:head] + data + before[len(before) - tail :]
        address = self._address(offset)
        words = np.frombuffer(data, np.uint32)
        for index in np.flatnonzero(words != np.frombuffer(before, np.uint32)).tolist():
            ctypes.memmove(address + 4 * index, data[4 * index : 4 * index + 4], 4)

    def _address(self, offset: int) -> int:
        unit, within = divmod(offset, _UNIT)
        return self._units[unit] + within

    def _reach(self, offset: int, *, extend: bool) -> bool:
        """Map the file up to the unit of an offset. False if it ends before."""
        while offset >= len(self._units) * _UNIT:
            start = len(self._units) * _UNIT
            size = os.fstat(self._fd).st_size
            if size < start + _UNIT:
                if not extend:
                    return False
                # Whole blocks, as SQLite does: it maps what the size says is there.
                os.pwrite(self._fd, bytes(start + _UNIT - size), size)
            self._units.append(self._map(start))
        return True

    def _map(self, start: int) -> int:
        address = _libc.mmap(None, _UNIT, _PROT_READ_WRITE, _MAP_SHARED, self._fd, start)
        if address in (None, _MAP_FAILED):
            code = ctypes.get_errno()
            raise OSError(code, f"cannot map the wal-index: {os.strerror(code)}")
        return int(address)
