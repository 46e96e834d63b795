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
    found = value(cookies, NAME)
    return int(found, 16) if _VALUE.fullmatch(found) else 0


def value(cookies: Iterable[bytes], wanted: bytes) -> bytes:
    """What the first cookie of a name says; empty where there is none.

    Args:
        cookies: values of Cookie lines.
        wanted: the name.
    """
    for line in cookies:
        if wanted not in line:
            continue
        for pair in line.split(b";"):
            name, _, found = pair.strip(b" \t").partition(b"=")
            if name == wanted:
                return found.strip(b'"')
    return b""


def header(txid: int, attributes: Attributes) -> bytes:
    """The line that gives LiteFS's cookie to a client."""
    return line(NAME, b"%016x" % txid, attributes)


def line(name: bytes, value: bytes, attributes: Attributes) -> bytes:
    """The line that gives a cookie to a client."""
    return b"Set-Cookie: %b=%b%b\r\n" % (name, value, attributes.text())
