from __future__ import annotations

import ctypes
import os
import sys
import threading
from array import array
from pathlib import Path

import pytest

from litefs.live.shm import SharedMemory
from litefs.sqlite.walindex import BLOCK_SIZE, HASH_OFFSET, MemoryIndex, append_frames, latest_frames


@pytest.fixture
def file(tmp_path: Path) -> int:
    return os.open(tmp_path / "shm", os.O_RDWR | os.O_CREAT)


def test_memmove_releases_the_gil() -> None:
    """The whole design of `SharedMemory` rests on it: else a page fault on our own mount could never be served."""
    size = 64 << 20
    source, target = ctypes.create_string_buffer(size), ctypes.create_string_buffer(size)
    moving, seen = threading.Event(), []

    def watch() -> None:
        moving.wait()
        seen.append(target.raw[-1:])  # runs at once only if the copy lets it

    thread = threading.Thread(target=watch)
    interval = sys.getswitchinterval()
    thread.start()
    ctypes.memset(source, 1, size)
    try:
        sys.setswitchinterval(60)
        moving.set()
        for _ in range(20):
            ctypes.memmove(target, source, size)
            if seen:
                break
    finally:
        sys.setswitchinterval(interval)
    assert seen
    thread.join()


def test_grows_by_whole_blocks(file: int) -> None:
    memory = SharedMemory(file)
    assert memory.read(0, 96) == b""
    memory.write(10, b"text")
    assert os.fstat(file).st_size == BLOCK_SIZE
    memory.write(2 * BLOCK_SIZE + 8, b"more")
    assert os.fstat(file).st_size == 3 * BLOCK_SIZE
    assert memory.read(2 * BLOCK_SIZE + 8, 4) == os.pread(file, 4, 2 * BLOCK_SIZE + 8) == b"more"
    assert memory.read(3 * BLOCK_SIZE, 4) == b""
    memory.unmap()
    memory.unmap()


def test_holds_the_same_index_as_plain_memory(file: int) -> None:
    memory, plain = SharedMemory(file), MemoryIndex()
    frame = 1
    for count in (1, 2, 3, 700, 1, 3400, 5, 1, 9000, 2):
        pgnos = array("I", [(frame * 7919 + index * 31) % 5000 + 1 for index in range(count)])
        for index in (memory, plain):
            append_frames(index, frame, pgnos)
        frame += count
    assert latest_frames(memory, frame - 1) == latest_frames(plain, frame - 1)
    for start in range(0, len(plain.data), BLOCK_SIZE):
        assert memory.read(start, BLOCK_SIZE) == plain.read(start, BLOCK_SIZE)
    memory.unmap()


@pytest.mark.parametrize("offset", [0, 2, 6])
@pytest.mark.parametrize("length", [2, 4, 10])
def test_slots_are_stored_at_any_alignment(file: int, offset: int, length: int) -> None:
    memory = SharedMemory(file)
    memory.write(HASH_OFFSET, bytes(range(32)))
    memory.write(HASH_OFFSET + offset, b"x" * length)
    expected = bytearray(range(32))
    expected[offset : offset + length] = b"x" * length
    assert memory.read(HASH_OFFSET, 32) == expected
    memory.unmap()
