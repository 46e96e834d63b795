"""Where the measurements put their files.

A file system that has seen many files come and go is slower than a fresh one: ext4 without a journal, for one, avoids
inodes that were freed a short while ago, so creating a file gets slower with every file deleted. As root we make a
fresh ext4 in a sparse image and mount it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE_SIZE = 60 << 30  # bytes, sparse: only what is written takes space


@contextmanager
def scratch(directory: Path | None) -> Iterator[tuple[Path, str]]:
    """A fresh directory, gone afterwards, and a word on what it is.

    Args:
        directory: make it in here; None: a file system of its own, where that is possible.
    """
    base = Path(tempfile.mkdtemp(prefix="litefs-bench-", dir=directory))
    try:
        mounted = directory is None and os.geteuid() == 0 and _mount_image(base)
        try:
            yield (base / "fs", "fresh ext4 in a loop device") if mounted else (base, _describe(base))
        finally:
            if mounted:
                _unmount(base / "fs")
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _mount_image(base: Path) -> bool:
    image, target = base / "image", base / "fs"
    target.mkdir()
    with open(image, "wb") as file:
        file.truncate(IMAGE_SIZE)
    # noinit_itable: or else the kernel fills inode tables in the background while we measure.
    make = ["mkfs.ext4", "-q", "-F", str(image)]
    for command in (make, ["mount", "-o", "loop,noinit_itable", str(image), str(target)]):
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            image.unlink()
            return False
    return True


def _unmount(target: Path) -> None:
    if subprocess.run(["umount", target], check=False).returncode != 0:
        subprocess.run(["umount", "--lazy", target], check=False)


def _describe(path: Path) -> str:
    found = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "-T", path], check=False, capture_output=True, text=True
    ).stdout.strip()
    return f"a directory on {found or 'an unknown file system'}"


def free_bytes(path: Path) -> int:
    """What can be written at a path, the file system below an image included."""
    here = shutil.disk_usage(path).free
    return min(here, shutil.disk_usage(path.parent).free)
