from __future__ import annotations

import os
from pathlib import Path

from litefs.sqlite.data import read_at


def test_reads_descriptors_and_functions(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    try:
        assert read_at(fd, 3, 4) == b"3456"
        assert read_at(fd, 8, 4) == b"89"
        assert read_at(fd, 10, 4) == b""
    finally:
        os.close(fd)
    assert read_at(lambda offset, length: b"0123456789"[offset : offset + length], 8, 4) == b"89"
