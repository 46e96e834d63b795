"""What keeps a vault small and quick to restore from: merging files into coarser levels, and removing old ones.

Every step can be broken off anywhere and done again: a merged file is added before what it holds is removed, and two
merged files with the same transactions do no harm.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import groupby, takewhile
from pathlib import Path

from litefs import ltx
from litefs.errors import LTXError
from litefs_backup_store import entries, plan
from litefs_backup_store.entries import SENT, SNAPSHOT, Entry
from litefs_backup_store.levels import Level, Levels
from litefs_backup_store.objects import Damaged
from litefs_backup_store.vault import Vault

log = logging.getLogger(__name__)

TAIL = 200
"""Files that nodes sent, after which they are merged before their time."""

ORPHAN = 3600.0
"""Seconds after which a sent file that no head names belongs to an upload that was broken off."""


class Maintenance:
    """Looks after one vault, whose writer this process is.

    Args:
        now: seconds since the epoch.
    """

    def __init__(self, vault: Vault, levels: Levels | None = None, *, now: float | None = None) -> None:
        self._vault = vault
        self._levels = levels or Levels()
        self._fixed_now = now

    def _now(self) -> float:
        return time.time() if self._fixed_now is None else self._fixed_now

    def merge_sent(self, database: str) -> bool:
        """Level 0 to level 1, of sent files that are old enough; whether nothing is left to do. Cheap if so."""
        sent = self._vault.head(database).sent
        due = self._due(sent)
        if not due:
            return not sent
        self._vault.check_writer()
        for run in plan.runs(due):
            for _, group in groupby(run, key=self._bucket):
                for part in _without_big(list(group)):
                    self._merge(database, 1, part)
        done = {entry.key for entry in due}
        self._vault.update(database, lambda head: head.without(done))
        self._vault.objects.delete(done)
        return len(due) == len(sent)

    def _bucket(self, entry: Entry) -> int:
        """Which of level 1's intervals a file ends in: no state is merged away but for a later one of the same."""
        return int(entry.timestamp / 1000 // self._levels.merged[0].interval)

    def _due(self, sent: Sequence[Entry]) -> Sequence[Entry]:
        if len(sent) >= TAIL:
            return sent
        ended = (self._now() - self._levels.sent_retention) // self._levels.merged[0].interval
        return list(takewhile(lambda entry: self._bucket(entry) < ended, sent))

    def run(self, database: str) -> None:
        """Everything that is due for a database."""
        self._vault.check_writer()
        self.merge_sent(database)
        files = self._vault.files(database)
        for finer, coarser in zip(self._levels.merged, self._levels.merged[1:], strict=False):
            files += self._merge_level(database, files, finer, coarser)
        files += self._snapshot(database, files)
        self._remove(database, files)

    # ---------------------------------------------------------------------------------------------------- merging

    def _merge_level(self, database: str, files: Sequence[Entry], finer: Level, coarser: Level) -> list[Entry]:
        reached = max((entry.max_txid for entry in files if entry.level == coarser.number), default=0)
        chain = _chain((entry for entry in files if entry.level == finer.number), reached)
        copied = {entry.max_txid for entry in files if entry.level == SNAPSHOT}
        made = []
        for bucket, group in groupby(chain, key=lambda entry: int(entry.timestamp / 1000 // coarser.interval)):
            if self._now() < (bucket + 1) * coarser.interval + self._levels.sent_retention + finer.interval:
                break  # more may come
            for run in plan.runs(group):
                made += [self._merge(database, coarser.number, part) for part in _cut(run, copied)]
        return made

    def _merge(self, database: str, level: int, group: Sequence[Entry]) -> Entry:
        """One file in place of several."""
        if level == 1 and len(group) == 1 and group[0].min_txid == 1:
            level = SNAPSHOT
        with self._vault.fetched(group) as paths, tempfile.TemporaryDirectory(prefix="litefs-merge-") as scratch:
            merged = Path(scratch) / "merged.ltx"
            try:
                with ExitStack() as stack:
                    inputs = [stack.enter_context(open(path, "rb")) for path in paths]
                    with open(merged, "wb") as output:
                        ltx.compact(inputs, output, compress=True)
            except LTXError as error:
                raise Damaged(f'a file of "{database}" cannot be read: {error}') from error
            return self._vault.store(database, level, merged)

    def _snapshot(self, database: str, files: Sequence[Entry]) -> list[Entry]:
        """A copy of the whole database, once a day if it has changed.

        It is of a state between two merged files, so that the later ones go on from it.
        """
        head = self._vault.head(database)
        reached = head.sent[0].min_txid - 1 if head.sent else head.pos.txid
        newest = max((entry for entry in files if entry.level == SNAPSHOT), key=_txid, default=None)
        if newest is not None and (
            newest.max_txid >= reached or self._now() - newest.timestamp / 1000 < self._levels.snapshot_interval
        ):
            return []
        if not reached:
            return []
        with tempfile.TemporaryDirectory(prefix="litefs-merge-") as scratch:
            path = Path(scratch) / "snapshot.ltx"
            with open(path, "wb") as output:
                found, _ = self._vault.restore(database, output, txid=reached)
            return [self._vault.store(database, SNAPSHOT, path)] if found.max_txid == reached else []

    # --------------------------------------------------------------------------------------------------- removing

    def _remove(self, database: str, files: Sequence[Entry]) -> None:
        outdated = {entry.key for entry in self._outdated(files)}
        head = self._vault.head(database, fresh=True)
        left = [entry for entry in files if entry.key not in outdated]
        if outdated and head.pos not in plan.reachable([*left, *head.sent]):
            log.error('nothing is removed from the backup of "%s": its newest state would be lost', database)
            return
        orphans = [
            item.key
            for item in self._vault.objects.list(f"{entries.prefix(database)}{SENT}/")
            if item.key not in head.tail and item.modified < self._now() - ORPHAN
        ]
        self._vault.objects.delete([*outdated, *orphans])

    def _outdated(self, files: Sequence[Entry]) -> list[Entry]:
        now = self._now()
        snapshots = sorted((entry for entry in files if entry.level == SNAPSHOT), key=_txid)
        # The newest one that is old enough stays: what came after it builds upon it.
        old = [entry for entry in snapshots if entry.timestamp / 1000 < now - self._levels.snapshot_retention]
        gone = old[:-1]
        first = next((entry for entry in snapshots if entry not in gone), None)
        begin = first.max_txid if first is not None else 0
        for level in self._levels.merged:
            # What begins before the oldest copy is not reached from it, and holds nothing for it.
            coarser = [entry for entry in files if level.number < entry.level < SNAPSHOT and entry.min_txid > begin]
            for entry in files:
                expired = entry.level == level.number and entry.timestamp / 1000 < now - level.retention
                if expired and (entry.max_txid <= begin or _is_held(entry, coarser)):
                    gone.append(entry)
        return gone


def _txid(entry: Entry) -> int:
    return entry.max_txid


def _is_held(entry: Entry, others: Iterable[Entry]) -> bool:
    return any(other.min_txid <= entry.min_txid and entry.max_txid <= other.max_txid for other in others)


def _chain(files: Iterable[Entry], after: int) -> list[Entry]:
    """The files beyond a transaction, in order; of two with the same transactions, the longer one."""
    found: list[Entry] = []
    for entry in sorted(files, key=lambda entry: (entry.min_txid, -entry.max_txid)):
        if entry.min_txid > max(after, found[-1].max_txid if found else 0):
            found.append(entry)
    return found


def _cut(run: Sequence[Entry], ends: set[int]) -> list[list[Entry]]:
    """A run in parts that end at certain transactions."""
    parts: list[list[Entry]] = [[]]
    for entry in run:
        parts[-1].append(entry)
        if entry.max_txid in ends:
            parts.append([])
    return [part for part in parts if part]


def _without_big(run: list[Entry]) -> list[list[Entry]]:
    """A run, with a first file apart that is a whole database: it stays as it is."""
    return [run[:1], run[1:]] if run[0].min_txid == 1 and len(run) > 1 else [run]
