"""How long what is kept: LiteFS Cloud's levels."""

from __future__ import annotations

from dataclasses import dataclass

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Level:
    """Files of one level.

    Args:
        number: 1 to 3.
        interval: seconds of transactions that one file holds.
        retention: seconds that it is kept for.
    """

    number: int
    interval: float
    retention: float


@dataclass(frozen=True, slots=True)
class Levels:
    """All levels, the finest first.

    Args:
        merged: levels 1 and up.
        snapshot_interval: seconds between two copies of a whole database.
        snapshot_retention: seconds that such a copy is kept for; nothing before the oldest one can be restored.
        sent_retention: seconds that files stay as nodes sent them.
    """

    merged: tuple[Level, ...] = (
        Level(1, 10.0, 3600.0),
        Level(2, 300.0, 30 * DAY),
        Level(3, 3600.0, 30 * DAY),
    )
    snapshot_interval: float = DAY
    snapshot_retention: float = 30 * DAY
    sent_retention: float = 60.0
