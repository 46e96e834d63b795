"""LiteFS's ``__txid`` cookie: the position that a client has seen, so that no replica shows it an older state."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from email.utils import formatdate

NAME = b"__txid"
LIFE = 300.0  # seconds

_VALUE = re.compile(rb"[0-9a-fA-F]{16}")


def position(cookies: Iterable[bytes]) -> int:
    """The TXID in the first cookie of that name; 0 where there is none or it is malformed.

    Args:
        cookies: values of Cookie lines.
    """
    for line in cookies:
        if NAME not in line:
            continue
        for pair in line.split(b";"):
            name, _, value = pair.strip(b" \t").partition(b"=")
            if name == NAME:
                value = value.strip(b'"')
                return int(value, 16) if _VALUE.fullmatch(value) else 0
    return 0


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


_expires = Dates(LIFE)


def header(txid: int) -> bytes:
    """The line that gives the cookie to a client."""
    return b"Set-Cookie: %b=%016x; Path=/; Expires=%b; HttpOnly\r\n" % (NAME, txid, _expires.now())
