"""Small file systems that can be filled, or lose power."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .waiting import wait_for

SHUTDOWN = 0x8004587D  # ioctl of ext4: no more input or output, as when the disk is gone
NO_FLUSH = 2  # without writing the journal first


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


class RealDisk:
    """An ext4 file system of its own that can be cut off as power failure does it."""

    def __init__(self, image: Path, path: Path) -> None:
        self._image = image
        self.path = path

    def fail(self) -> None:
        """Nothing reaches the disk any more, and what has not yet is lost; every call ends with EIO."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_FLUSH))
        finally:
            os.close(fd)

    def come_back(self) -> None:
        """Mount it again. Nobody may have a file open there."""
        wait_for(self._unmount, f"unmounting of {self.path}")
        self.mount()

    def _unmount(self) -> bool:
        return subprocess.run(["umount", self.path], capture_output=True).returncode == 0

    def mount(self) -> None:
        """Raises CannotMount."""
        command = ["mount", "-t", "ext4", "-o", "loop", self._image, self.path]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise CannotMount(done.stderr.strip())


@contextmanager
def real_disk(path: Path, size: int) -> Iterator[RealDisk]:
    """A disk of `size` bytes at `path`. Raises `CannotMount`."""
    if shutil.which("mkfs.ext4") is None:
        raise CannotMount("no mkfs.ext4")
    image = path.with_suffix(".img")
    path.mkdir()
    with open(image, "wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
    disk = RealDisk(image, path)
    disk.mount()
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", path], check=True, capture_output=True)
        image.unlink()
