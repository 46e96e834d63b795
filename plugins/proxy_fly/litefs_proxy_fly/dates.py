"""Times as HTTP writes them."""

from __future__ import annotations

import time
from email.utils import formatdate


class Dates:
    """Times of HTTP as text, made once a second."""

    def __init__(self, ahead: float = 0.0) -> None:
        self._ahead = ahead
        self._second = 0
        self._text = b""

    def now(self) -> bytes:
        """The present, moved ahead by so many seconds, as in ``Sat, 21 Nov 2026 09:00:00 GMT``."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = formatdate(second + self._ahead, usegmt=True).encode()
        return self._text
