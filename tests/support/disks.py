"""Small file systems that can be filled."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotMount(Exception):
    """Not allowed here."""


class SmallDisk:
    """A file system in memory. Making it larger is how space becomes free."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, size: int) -> None:
        """Let it hold this many bytes."""
        subprocess.run(["mount", "-o", f"remount,size={size}", self.path], check=True, capture_output=True)


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[SmallDisk]:
    """A disk of `size` bytes at `path`. Raises `CannotMount`."""
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True, text=True)
    if done.returncode:
        raise CannotMount(done.stderr.strip())
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", path], check=True, capture_output=True)
