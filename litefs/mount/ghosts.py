"""Files that went with their database a moment ago, and are still shown.

The kernel hears of it only after the database's deletion has been answered, so for a moment a side file is there for
some and not for others. SQLite, which deletes a log that it finds beside an empty database, takes that for an error. So
it stays for a moment, and may be deleted.
"""

from __future__ import annotations

import math

import trio

SHOWN = 0.25  # seconds; the kernel needs a few milliseconds to be told that a name is gone


class Ghosts:
    """Names of such files."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, name: str) -> None:
        """A file goes with its database."""
        self._until[name] = trio.current_time() + SHOWN

    def __contains__(self, name: str) -> bool:
        if trio.current_time() <= self._until.get(name, -math.inf):
            return True
        self._until.pop(name, None)
        return False

    def remove(self, name: str) -> bool:
        """Show it no longer; whether it was one."""
        return self._until.pop(name, None) is not None
