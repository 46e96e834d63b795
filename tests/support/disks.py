"""Small file systems that can be filled, lose power, or fail to store what is written."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from .waiting import wait_for

D = TypeVar("D")

SHUTDOWN = 0x8004587D  # ioctl of ext4: no more input or output, as when the disk is gone
NO_FLUSH = 2  # without writing the journal first


class CannotMount(Exception):
    """Not allowed here."""


@contextmanager
def or_skip(disk: AbstractContextManager[D]) -> Iterator[D]:
    """The disk; skips the test where none can be mounted."""
    try:
        with disk as found:
            yield found
    except CannotMount as error:
        pytest.skip(f"cannot mount a disk: {error}")


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


Real = TypeVar("Real", bound=RealDisk)


@contextmanager
def real_disk(path: Path, size: int) -> Iterator[RealDisk]:
    """A disk of `size` bytes at `path`. Raises `CannotMount`."""
    image = path.with_suffix(".img")
    with _mounted(RealDisk(image, path), image, size) as disk:
        yield disk


@contextmanager
def _mounted(disk: Real, image: Path, size: int) -> Iterator[Real]:
    if shutil.which("mkfs.ext4") is None:
        raise CannotMount("no mkfs.ext4")
    disk.path.mkdir()
    with open(image, "wb") as file:
        file.truncate(size)
    # Blocks as large as pages of memory, so that each of them is stored as a whole, or not.
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", image], check=True, capture_output=True)
    disk.mount()
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk.path], check=True, capture_output=True)
        image.unlink()


class FailingDisk(RealDisk):
    """One whose device can be made to fail: what is written to blocks that were not in use before is not stored.

    Its image lies on a file system in memory and has holes where nothing was written; without space there, those cannot
    be filled. Journal and tables of the ext4 have their space, so it goes on, as on a disk with bad blocks: each file's
    next sync fails, the one after it does not, and what was not stored is gone as soon as memory forgets it.
    """

    def __init__(self, image: Path, path: Path, store: SmallDisk, size: int) -> None:
        super().__init__(image, path)
        self._store = store
        self._size = size

    @contextmanager
    def failing(self) -> Iterator[None]:
        """A context in which it fails."""
        wait_for(self._take_space, "full store of the disk")
        try:
            yield
        finally:
            self._store.resize(self._size)

    @property
    def writable(self) -> bool:
        """Whether the file system has not given up."""
        probe = self.path / "probe"
        try:
            probe.touch()
            probe.unlink()
        except OSError:
            return False
        return True

    def _take_space(self) -> bool:
        found = os.statvfs(self._store.path)
        with suppress(subprocess.CalledProcessError):  # more was written meanwhile than would fit
            self._store.resize((found.f_blocks - found.f_bfree) * found.f_frsize)
        return os.statvfs(self._store.path).f_bfree == 0

    def mount(self) -> None:
        """Raises CannotMount."""
        with open(self._image, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        super().mount()
        subprocess.run(["fstrim", self.path], check=True, capture_output=True)  # holes where nothing is
        device = subprocess.run(["findmnt", "-no", "SOURCE", self.path], check=True, capture_output=True, text=True)
        # Linux takes a request for done that was done in part: no larger ones than what is in use or not.
        limit = Path("/sys/block", Path(device.stdout.strip()).name, "queue/max_sectors_kb")
        try:
            limit.write_text("4")
        except OSError as error:
            raise CannotMount(str(error)) from None


@contextmanager
def failing_disk(path: Path, size: int) -> Iterator[FailingDisk]:
    """A disk of `size` bytes at `path`. Raises `CannotMount`."""
    room = size + (4 << 20)
    with small_disk(path.with_suffix(".store"), room) as store:
        image = store.path / "image"
        with _mounted(FailingDisk(image, path, store, room), image, size) as disk:
            yield disk
