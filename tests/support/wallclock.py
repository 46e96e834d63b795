"""A wall clock that can be set, for one process: the machine's own stays as it is.

Python runs a module `sitecustomize` before everything else; this one puts other functions in the place of `time.time`
and `time.time_ns`. Leases and waits are measured by other clocks, which no step can move; times of files are the
machine's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

_SITE = """
import os
import time

_seconds, _nanoseconds = time.time, time.time_ns


def _step():
    with open(os.environ["LITEFS_TEST_WALL_CLOCK"]) as file:
        return int(file.read())


time.time = lambda: _seconds() + _step()
time.time_ns = lambda: _nanoseconds() + _step() * 10**9
"""


class WallClock:
    """One that goes as the machine's does, until it is set.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        self._place = folder / "step"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_SITE)
        self.env: Mapping[str, str] = {"PYTHONPATH": str(folder), "LITEFS_TEST_WALL_CLOCK": str(self._place)}
        self._step = 0
        self.set(0)

    def set(self, step: int) -> None:
        """Be so many seconds ahead of the machine's; also for processes that run."""
        self._step = step
        new = self._place.with_suffix(".new")
        new.write_text(str(step))
        os.replace(new, self._place)

    def now(self) -> int:
        """What it shows: ms since the epoch."""
        return time.time_ns() // 1_000_000 + self._step * 1000
