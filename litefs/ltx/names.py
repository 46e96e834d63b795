"""Names of LTX files: ``MIN-MAX.ltx`` with both transaction ids as 16 lowercase hex digits."""

from __future__ import annotations

import re

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.ltx\Z")


def filename(min_txid: int, max_txid: int) -> str:
    """Return the name of the file that holds transactions ``min_txid`` to ``max_txid``."""
    return f"{min_txid:016x}-{max_txid:016x}.ltx"


def parse_filename(name: str) -> tuple[int, int] | None:
    """Return ``(min_txid, max_txid)``, or None for a name that is not an LTX file's."""
    match = _NAME.match(name)
    if match is None:
        return None
    return int(match[1], 16), int(match[2], 16)
