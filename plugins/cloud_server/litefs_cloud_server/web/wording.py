"""Numbers and times as a person reads them. All times are UTC: without scripts nobody knows where the reader is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from urllib.parse import urlencode

from litefs.ltx import Pos
from litefs_cloud_server.timeline import iso
from litefs_cloud_server.web.markup import Html, join, tag

_STEPS = (("d", 86400), ("h", 3600), ("min", 60))


def size(number: int) -> str:
    """Bytes."""
    value, unit = float(number), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def moment(milliseconds: int) -> Html:
    """A time, to the second, and how long ago that is."""
    shown = datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return join(
        tag("time", shown, datetime=iso(milliseconds)), " ", tag("small", ago(time.time() - milliseconds / 1000))
    )


def ago(seconds: float) -> str:
    """How long ago."""
    for unit, length in _STEPS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"


def transaction(pos: Pos) -> Html:
    """A transaction's number without the zeros before it; all of the position where the pointer rests on it."""
    return tag("code", f"{pos.txid:x}", title=str(pos))


def link(path: str, **query: str) -> str:
    """A URL of this server."""
    return f"{path}?{urlencode(query)}" if query else path
