"""Waiting for locks that other users of a database hold, up to a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from litefs.live.pageset import Busy
from litefs.sqlite.locks import try_lock


class Wait:
    """Polls with growing pauses until an absolute ``time.monotonic()`` deadline.

    Polling, because a blocking F_OFD_SETLKW in a thread takes no time limit. The pauses start far below the length of
    a usual transaction and stay short, so that a stream of short transactions leaves gaps to hit.
    """

    FIRST, LONGEST = 50e-6, 2e-3

    def __init__(self, deadline: float, name: str) -> None:
        self.deadline = deadline
        self._name = name
        self._pause = self.FIRST

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.deadline - time.monotonic())

    def pause(self, reason: str) -> None:
        """Sleep a little. Raises `Busy` with the reason once the deadline has passed."""
        left = self.remaining()
        if not left:
            raise Busy(f"{self._name}: {reason}")
        time.sleep(min(self._pause, left))
        self._pause = min(self._pause * 2, self.LONGEST)

    def until(self, attempt: Callable[[], bool], reason: str) -> None:
        """Repeat the attempt, at least once, until it succeeds. Raises `Busy`."""
        self._pause = self.FIRST
        while not attempt():
            self.pause(reason)

    def lock(self, fd: int, start: int, length: int = 1, *, exclusive: bool = True, reason: str) -> None:
        """Take an open file description lock. Raises `Busy`."""
        self.until(lambda: try_lock(fd, start, length, exclusive=exclusive), reason)
