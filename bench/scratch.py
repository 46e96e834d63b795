"""Where the measurements put their files.

ext4 without a journal avoids inodes that were freed in the last minutes, so creating a file takes 600 us instead of
20 in a directory whose neighbourhood has seen thousands of files come and go: more than all the rest of a commit. So
each contestant gets a directory far from others (the flag T) where files are created fast. The alternative is a fresh
file system in an image, but fsync takes three to five times as long through a loop device.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE_SIZE = 60 << 30  # bytes, sparse: only what is written takes space
_PLACES = 40
_PROBES = 300  # files
_FAST = 40e-6  # seconds
BASE = Path("/var/tmp")  # on a disk where /tmp is in memory


@contextmanager
def scratch(directory: Path | None, *, image: bool = False) -> Iterator[tuple[Path, str]]:
    """A fresh directory, gone afterwards, and a word on what it is.

    Args:
        directory: make it in here.
        image: make a file system of its own, mounted from an image; needs root.

    Raises:
        subprocess.CalledProcessError: the image cannot be made or mounted.
    """
    base = Path(tempfile.mkdtemp(prefix="litefs-bench-", dir=directory or BASE))
    target = base / "fs"
    target.mkdir()
    try:
        if image:
            _mount_image(base / "image", target)
        try:
            # Directories in a directory with this flag are spread over the disk. Other file systems refuse it.
            subprocess.run(["chattr", "+T", target], check=False, capture_output=True)
            yield target, f"{_type(target)}{' in a loop device' if image else ''}"
        finally:
            if image:
                _unmount(target)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def good_place(parent: Path, stem: str) -> Path:
    """A fresh directory in `parent`, the first of a few in which files are created fast, else the best of them."""
    costs: dict[Path, float] = {}
    while len(costs) < _PLACES:
        path = Path(tempfile.mkdtemp(prefix=f"{stem}-", dir=parent))
        costs[path] = _creation(path / "probe")
        if costs[path] < _FAST:
            return path
    return min(costs, key=costs.__getitem__)


def _creation(path: Path) -> float:
    """Seconds to create a file. The files stay: their inodes would be in the way when they were deleted."""
    path.mkdir()
    begin = time.perf_counter()
    for number in range(_PROBES):
        (path / str(number)).touch()
    return (time.perf_counter() - begin) / _PROBES


def _mount_image(image: Path, target: Path) -> None:
    with open(image, "wb") as file:
        file.truncate(IMAGE_SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    # noinit_itable: or else the kernel fills inode tables in the background while we measure.
    subprocess.run(["mount", "-o", "loop,noinit_itable", image, target], check=True)


def _unmount(target: Path) -> None:
    if subprocess.run(["umount", target], check=False).returncode != 0:
        subprocess.run(["umount", "--lazy", target], check=False)


def _type(path: Path) -> str:
    found = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "-T", path], check=False, capture_output=True, text=True
    ).stdout.strip()
    return found or "unknown file system"


def free_bytes(path: Path) -> int:
    """What can be written at a path, the file system below an image included."""
    return min(shutil.disk_usage(path).free, shutil.disk_usage(path.parent).free)
