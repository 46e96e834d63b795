"""Which files lead to a state: of a transaction, of a moment, or the newest one."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from litefs.backup import DatabaseRefused
from litefs.ltx import Pos
from litefs_backup_store.entries import Entry

NOWHERE = Pos(0, 0)


class NoSuchState(DatabaseRefused):
    """The files that are kept do not lead to the state that is asked for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Files, in order, the first a snapshot, and the state they lead to."""

    entries: tuple[Entry, ...]

    @property
    def pos(self) -> Pos:
        """Where they lead."""
        return self.entries[-1].after

    @property
    def timestamp(self) -> int:
        """When its last transaction was made, ms since the epoch."""
        return self.entries[-1].timestamp


def make(entries: Iterable[Entry], *, pos: Pos | None = None, txid: int = 0, timestamp: int = 0) -> Plan:
    """The shortest way to a state, from any snapshot.

    Args:
        entries: the files there are.
        pos: lead exactly there.
        txid: else, to the last state at or before this transaction.
        timestamp: else, to the last state at or before this time, ms since the epoch.

    Raises:
        NoSuchState: there is no way.
    """
    usable = [
        entry
        for entry in entries
        if (not txid or entry.max_txid <= txid) and (not timestamp or entry.timestamp <= timestamp)
    ]
    ways = reachable(usable)
    if pos is not None:
        if pos not in ways:
            raise NoSuchState(f"the files that are kept do not lead to position {pos}")
        return Plan(way(ways, pos))
    if not ways:
        what = "time" if timestamp else "transaction"
        raise NoSuchState(f"nothing is kept of that {what}", "litefs backup list -db NAME shows how far back it goes")
    return Plan(way(ways, max(ways)))


def reachable(entries: Iterable[Entry]) -> dict[Pos, Entry]:
    """Every position that the files lead to, with the last file of the shortest way there."""
    following: dict[Pos, list[Entry]] = defaultdict(list)
    for entry in entries:
        following[NOWHERE if entry.min_txid == 1 else entry.before].append(entry)
    ways: dict[Pos, Entry] = {}
    waiting = deque([NOWHERE])
    while waiting:
        at = waiting.popleft()
        for entry in sorted(following[at], key=lambda entry: (-entry.max_txid, -entry.level)):
            if entry.after not in ways:
                ways[entry.after] = entry
                waiting.append(entry.after)
    return ways


def way(ways: dict[Pos, Entry], to: Pos) -> tuple[Entry, ...]:
    """The files that lead to a position, given what `reachable` has found."""
    found = [ways[to]]
    while found[-1].min_txid != 1:
        found.append(ways[found[-1].before])
    return tuple(reversed(found))


def runs(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Consecutive files as they can be merged: each run of one page size, and not beyond a deletion."""
    found: list[list[Entry]] = []
    for entry in entries:
        before = found[-1][-1] if found else None
        if before is None or before.deletes or (before.after, before.page_size) != (entry.before, entry.page_size):
            found.append([])
        found[-1].append(entry)
    return found
