"""The states of a database that can be had: its points in time. Blocking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from litefs_backup_store import plan
from litefs_backup_store.vault import Vault

from litefs.ltx import EMPTY, Pos


@dataclass(frozen=True, slots=True)
class Point:
    """A state.

    Attributes:
        timestamp: of its last transaction, ms since the epoch.
    """

    pos: Pos
    timestamp: int

    @property
    def deleted(self) -> bool:
        """Whether the database was deleted then."""
        return self.pos.checksum == EMPTY


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of the time that the backup covers.

    Attributes:
        end: ms since the epoch.
        transactions: that were made in it.
    """

    end: int
    transactions: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """All of it.

    Attributes:
        points: the newest first.
        stored: bytes of the files, save those of the last minute.
    """

    points: Sequence[Point]
    stored: int


def read(vault: Vault, database: str) -> Timeline:
    """Every state of a database that can be had; none where there is no such database. Raises StorageError."""
    files = vault.files(database)
    ways = plan.reachable(files)
    points = [Point(pos, ways[pos].timestamp) for pos in sorted(ways, reverse=True)]
    return Timeline(points, sum(entry.size for entry in files))


def bars(found: Sequence[Point], number: int) -> list[Bar]:
    """The time from the oldest state to the newest one, in parts of equal length, the oldest first."""
    if not found:
        return []
    begin, end = found[-1].timestamp, found[0].timestamp
    width = max(1, -(-(end - begin + 1) // number))
    counts = [0] * (-(-(end - begin + 1) // width))
    before = found[-1].pos.txid - 1
    for point in reversed(found):
        place = min(max(0, point.timestamp - begin) // width, len(counts) - 1)
        counts[place] += point.pos.txid - before
        before = point.pos.txid
    return [Bar(begin + (n + 1) * width - 1, count) for n, count in enumerate(counts)]


def iso(milliseconds: int) -> str:
    """A time as JSON has it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
