"""The mount table: what is mounted where, and removing what a dead daemon left behind."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import threading
from pathlib import Path

from litefs.errors import MountError

_MNT_DETACH = 2
_STAT_LIMIT = 3.0  # seconds that a mount gets to answer


def mounted_type(directory: Path) -> str | None:
    """Type of the file system mounted at a directory; None when nothing is. Does not touch the mount."""
    wanted = os.fspath(directory)
    found = None
    with open("/proc/self/mountinfo") as table:
        for line in table:
            fields = line.split()
            if _unescape(fields[4]) == wanted:
                found = fields[fields.index("-") + 1]
    return found


def _unescape(text: str) -> str:
    return text.encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")


def try_unmount(directory: Path) -> bool:
    """Unmount if nobody has a file open there, or works in it; whether it is gone."""
    return _unmount(directory, at_once=False) is None


def unmount(directory: Path) -> None:
    """Unmount at once, even while files are open on it.

    Raises:
        MountError: it stays mounted; says why.
    """
    reason = _unmount(directory, at_once=True)
    if reason is not None:
        raise MountError(f"cannot unmount {directory}: {reason}", f"try: umount -l {directory}")


def _unmount(directory: Path, *, at_once: bool) -> str | None:
    """Why it is still mounted; None when it is not."""
    reason = _unmount_root(directory, at_once) if os.geteuid() == 0 else _unmount_user(directory, at_once)
    return reason if reason is not None and mounted_type(directory) is not None else None


def _unmount_root(directory: Path, at_once: bool) -> str | None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(directory), _MNT_DETACH if at_once else 0) == 0:
        return None
    return os.strerror(ctypes.get_errno())


def _unmount_user(directory: Path, at_once: bool) -> str | None:
    command = shutil.which("fusermount3") or shutil.which("fusermount")
    if command is None:
        raise MountError("fusermount3 is not installed", "apt-get install fuse3")
    flags = ["-u", "-z"] if at_once else ["-u"]
    done = subprocess.run([command, *flags, directory], capture_output=True, text=True, timeout=20)
    return None if done.returncode == 0 else done.stderr.strip()


def clean_stale(directory: Path) -> bool:
    """Remove a mount whose daemon is dead; whether there was one.

    Raises:
        MountError: something that lives is mounted there.
    """
    kind = mounted_type(directory)
    if kind is None:
        return False
    if not kind.startswith("fuse"):
        return False  # a bind mount or a volume: mounting over it is what the user wants
    if _answers(directory):
        raise MountError(
            f"{directory} is mounted already, and its daemon is running", "stop it first, or choose another fuse.dir"
        )
    unmount(directory)
    return True


def _answers(directory: Path) -> bool:
    """Whether a mount's daemon serves requests. One that hangs counts as alive: nobody knows what it still holds."""
    alive = [True]

    def look() -> None:
        try:
            os.statvfs(directory)
        except OSError as error:
            alive[0] = error.errno not in (errno.ENOTCONN, errno.ECONNABORTED)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(_STAT_LIMIT)
    return alive[0]


def check_fuse() -> None:
    """Whether a FUSE mount can be made here.

    Raises:
        MountError: what is missing and how to get it.
    """
    if not os.path.exists("/dev/fuse"):
        raise MountError(
            "/dev/fuse does not exist", "load the fuse module, or start the container with --device /dev/fuse"
        )
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise MountError("/dev/fuse may not be opened by this user", "run as root, or ask for access to /dev/fuse")
    if os.geteuid() != 0 and not shutil.which("fusermount3"):
        raise MountError("fusermount3 is not installed", "apt-get install fuse3")
