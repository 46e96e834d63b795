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


def unmount(directory: Path) -> None:
    """Unmount at once, even while files are open on it.

    Raises:
        MountError: it stays mounted; says why.
    """
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(directory), _MNT_DETACH) == 0:
            return
        reason = os.strerror(ctypes.get_errno())
    else:
        command = shutil.which("fusermount3") or shutil.which("fusermount")
        if command is None:
            raise MountError("fusermount3 is not installed", "apt-get install fuse3")
        done = subprocess.run([command, "-u", "-z", directory], capture_output=True, text=True, timeout=20)
        if done.returncode == 0:
            return
        reason = done.stderr.strip()
    raise MountError(f"cannot unmount {directory}: {reason}", f"try: umount -l {directory}")


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
