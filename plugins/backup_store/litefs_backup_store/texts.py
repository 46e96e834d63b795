"""Times and sizes as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def show_time(milliseconds: int) -> str:
    """A time in UTC; a dash for none."""
    if not milliseconds:
        return "-"
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def show_size(size: int) -> str:
    """Bytes, KB, MB or GB."""
    number = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError
