"""What clients were told, held against what is there in the end."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

Key = tuple[str, int]  # node of the writer, number of its try


@dataclass
class History:
    """The records of all writers.

    Attributes:
        acknowledged: time of each acknowledged try.
        refused: time of each failed one.
    """

    acknowledged: dict[Key, float] = field(default_factory=dict)
    refused: dict[Key, float] = field(default_factory=dict)

    def read(self, node: str, record: Path) -> None:
        """Add what one writer has recorded."""
        for line in record.read_text().splitlines() if record.exists() else ():
            what, n, at, *_ = line.split(" ", 3)
            {"ack": self.acknowledged, "no": self.refused}[what][node, int(n)] = float(at)

    def longest_silence(self, start: float, end: float) -> float:
        """Seconds of the longest time between two moments in which no write was acknowledged by anyone."""
        times = sorted(at for at in self.acknowledged.values() if start <= at <= end)
        return max(after - before for before, after in itertools.pairwise([start, *times, end]))


@dataclass
class Verdict:
    """What became of the writes.

    Attributes:
        lost: acknowledged, and not there.
        doubled: there more than once.
        disordered: there before one that its own writer wrote earlier.
        unheard: there, though the writer was told that it failed.
    """

    lost: set[Key]
    doubled: set[Key]
    disordered: set[Key]
    unheard: set[Key]


def rows(database: Path) -> list[Key]:
    """The writes that a database file holds, in the order in which they were made."""
    connection = sqlite3.connect(f"file:{database}?immutable=1", uri=True)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [(node, n) for node, n in connection.execute("SELECT node, n FROM entries ORDER BY id")]
    finally:
        connection.close()


def judge(history: History, found: Iterable[Key]) -> Verdict:
    """Compare."""
    found = list(found)
    last: Counter[str] = Counter()
    disordered = set()
    for node, n in found:
        if n < last[node]:
            disordered.add((node, n))
        last[node] = n
    counts = Counter(found)
    return Verdict(
        lost=set(history.acknowledged) - set(found),
        doubled={key for key, count in counts.items() if count > 1},
        disordered=disordered,
        unheard=set(history.refused) & set(found),
    )
