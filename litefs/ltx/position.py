"""Positions of a database and their text forms: 16 lowercase hex digits, ``TXID/checksum`` for both."""

from __future__ import annotations

import re
from typing import NamedTuple

from litefs.errors import LTXError

_HEX16 = re.compile(r"[0-9a-f]{16}\Z")


def format_txid(txid: int) -> str:
    """Return a transaction id as 16 lowercase hex digits."""
    return f"{txid:016x}"


def parse_txid(text: str) -> int:
    """Read 16 lowercase hex digits; raises `LTXError` for any other text."""
    return _parse(text, "transaction id")


def format_checksum(checksum: int) -> str:
    """Return a checksum as 16 lowercase hex digits."""
    return f"{checksum:016x}"


def parse_checksum(text: str) -> int:
    """Read 16 lowercase hex digits; raises `LTXError` for any other text."""
    return _parse(text, "checksum")


def _parse(text: str, noun: str) -> int:
    if not _HEX16.match(text):
        raise LTXError(f"{text[:64]!r} is not a {noun}", "expected 16 lowercase hex digits")
    return int(text, 16)


class Pos(NamedTuple):
    """Where a database stands: its last transaction and the checksum of its pages after it.

    ``Pos(0, 0)`` is a database that was never written. A deleted one keeps its TXID and has the checksum `EMPTY`.
    """

    txid: int = 0
    checksum: int = 0

    def __str__(self) -> str:
        return f"{self.txid:016x}/{self.checksum:016x}"

    @classmethod
    def parse(cls, text: str) -> Pos:
        """Read the 33 characters that ``str(pos)`` gives; raises `LTXError`."""
        txid, slash, checksum = text.partition("/")
        if not slash:
            raise LTXError(f"{text[:64]!r} is not a position", "expected TXID/checksum, 16 lowercase hex digits each")
        return cls(parse_txid(txid), parse_checksum(checksum))
