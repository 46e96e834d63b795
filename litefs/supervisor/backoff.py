"""How long to wait before a command that has ended is started again."""

from __future__ import annotations

FIRST = 1.0  # seconds
LONGEST = 60.0
STEADY = 60.0  # seconds: who ran that long did not end because of how it was started


class Backoff:
    """Pauses that double from one failure to the next.

    Attributes:
        failures: restarts in a row, none of which led to a steady run.
    """

    def __init__(self) -> None:
        self.failures = 0

    def pause(self, ran: float) -> float:
        """Seconds to wait now that a run of ``ran`` seconds has ended."""
        if ran >= STEADY:
            self.reset()
        self.failures += 1
        return float(min(FIRST * 2.0 ** min(self.failures - 1, 16), LONGEST))

    def reset(self) -> None:
        """Forget what was."""
        self.failures = 0
