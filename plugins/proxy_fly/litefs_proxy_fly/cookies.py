"""LiteFS's ``__txid`` cookie: the position that a client has seen, so that no replica shows it an older state."""

from __future__ import annotations

import re
from collections.abc import Iterable

from litefs_proxy_fly.attributes import Attributes

NAME = b"__txid"

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


def header(txid: int, attributes: Attributes) -> bytes:
    """The line that gives the cookie to a client."""
    return b"Set-Cookie: %b=%016x%b\r\n" % (NAME, txid, attributes.text())
