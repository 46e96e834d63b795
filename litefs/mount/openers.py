"""Programs that have a database open as it was before this mount, or below it.

A program that opened a database while no node was there, in the directory that the mount hides by now, opens the log or
the journal of it by its path: in the mount. It would write transactions of its own file into the log of another one.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import PurePath

_TICK = os.sysconf("SC_CLK_TCK")
_STARTED = 19  # index of the field in /proc/PID/stat, counted from behind the name
_MANY = 4096


class Openers:
    """Processes that are older than the mount, and which of its databases they have opened."""

    def __init__(self) -> None:
        # Rounded up, and one more: a process as old as the mount is asked, too.
        self._since = time.clock_gettime(time.CLOCK_BOOTTIME) * _TICK + 2
        self._younger: set[int] = set()  # threads; a number that is used again is of a younger one
        self._known: set[tuple[str, int]] = set()  # name of a database, process

    def opened(self, name: str, thread: int) -> None:
        """A thread has opened a database of this mount."""
        process = self._older(thread)
        if process:
            self._known.add((name, process))

    def check(self, name: str, thread: int) -> None:
        """Whether a thread may open the log or the journal of a database.

        Raises:
            OSError: EIO when its process has that database open from elsewhere.
        """
        process = self._older(thread)
        if process and (name, process) not in self._known and _has_open(process, name):
            raise OSError(
                errno.EIO,
                f"{name}: process {process} has opened it before this mount was there, and has another file: "
                "it must close and open it again",
            )

    def _older(self, thread: int) -> int:
        """The process of a thread, if it is older than the mount; 0 if not, or where nobody can tell."""
        if thread in self._younger:
            return 0
        try:
            with open(f"/proc/{thread}/status", "rb") as file:
                process = int(file.read().partition(b"\nTgid:")[2].split(None, 1)[0])
            with open(f"/proc/{process}/stat", "rb") as file:
                started = int(file.read().rpartition(b")")[2].split()[_STARTED])
        except (OSError, ValueError, IndexError):
            return 0
        if started <= self._since:
            return process
        if len(self._younger) >= _MANY:
            self._younger.clear()
        self._younger.add(thread)
        return 0


def _has_open(process: int, name: str) -> bool:
    folder = f"/proc/{process}/fd"
    try:
        for entry in os.listdir(folder):
            try:
                link = os.readlink(f"{folder}/{entry}")
            except FileNotFoundError:
                continue
            if PurePath(link.removesuffix(" (deleted)")).name == name:
                return True
    except OSError:
        return False
    return False
