"""The LTX files of one database: which there are, and how files come and go."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from pathlib import Path

from litefs.ltx import filename, parse_filename
from litefs.store.syncing import sync_directory

Range = tuple[int, int]  # min and max TXID of a file
AHEAD = 1.0  # seconds by which a file may be younger than it can be


class LTXDir:
    """Directory ``dbs/NAME/ltx``.

    Nearly all files hold one transaction each, and those form one run first..last: it is kept as two numbers, so
    that millions of files cost nothing. Everything else (snapshots, compacted files) is listed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._first, self._last = 1, 0  # the run of single-transaction files; empty when first > last
        self._others: set[Range] = set()
        self._temporary = itertools.count()
        self.last_size = 0  # bytes of the newest file
        self.reaped = 0  # files removed by retention since start

    def load(self) -> None:
        """Read the directory; temporary files of an earlier run are removed."""
        if not self.path.exists():
            self.path.mkdir(parents=True)
            sync_directory(self.path.parent)
        singles: set[int] = set()
        self._others.clear()
        for entry in os.scandir(self.path):
            txids = parse_filename(entry.name)
            if txids is None:
                if entry.name.endswith(".tmp"):
                    os.unlink(entry.path)
            elif txids[0] == txids[1]:
                singles.add(txids[0])
            else:
                self._others.add(txids)
        self._first, self._last = 1, 0
        if singles:
            self._last = self._first = max(singles)
            while self._first - 1 in singles:
                self._first -= 1
            self._others.update((txid, txid) for txid in singles if txid < self._first)
        newest = self.newest()
        self.last_size = os.path.getsize(self.file(*newest)) if newest else 0

    # ------------------------------------------------------------------------------------------------- looking

    def __len__(self) -> int:
        return len(self._others) + max(0, self._last - self._first + 1)

    def ranges(self) -> list[Range]:
        """Every file as (min, max) TXID, oldest first."""
        return sorted(self._others | {(txid, txid) for txid in range(self._first, self._last + 1)})

    def newest(self) -> Range | None:
        """The file with the highest max TXID; of several, the one that starts first."""
        candidates = list(self._others)
        if self._first <= self._last:
            candidates.append((self._last, self._last))
        return max(candidates, key=lambda r: (r[1], -r[0])) if candidates else None

    def file(self, min_txid: int, max_txid: int) -> Path:
        """Path that the file of these transactions has, whether it exists or not."""
        return self.path / filename(min_txid, max_txid)

    def single(self, txid: int) -> Path | None:
        """The file that holds just this transaction, if there is one."""
        if self._first <= txid <= self._last or (txid, txid) in self._others:
            return self.file(txid, txid)
        return None

    def leading_to(self, txid: int) -> Path | None:
        """A file whose last transaction this is, if there is one."""
        if self._first <= txid <= self._last:
            return self.file(txid, txid)
        return next((self.file(low, high) for low, high in self._others if high == txid), None)

    def since(self, txid: int) -> list[Range] | None:
        """Files that lead from position `txid` to the newest one, in order; None when one is missing."""
        newest = self.newest()
        if newest is None:
            return [] if txid == 0 else None
        chain = self.after(txid)
        return chain if (chain[-1][1] if chain else txid) == newest[1] else None

    def after(self, txid: int) -> list[Range]:
        """Files that lead on from position `txid`, in order, up to where one is missing."""
        newest = self.newest()
        chain: list[Range] = []
        starts: dict[int, int] = {}
        for low, high in self._others:
            starts[low] = max(high, starts.get(low, 0))
        while newest is not None and txid < newest[1]:
            start = txid + 1
            if self._first <= start <= self._last:
                high = start
            elif start in starts:
                high = starts[start]
            else:
                break
            chain.append((start, high))
            txid = high
        return chain

    # ------------------------------------------------------------------------------------------------ changing

    def temporary(self) -> Path:
        """A fresh name in the directory for a file that is being written."""
        return self.path / f"{os.getpid()}-{next(self._temporary)}.ltx.tmp"

    def add(self, min_txid: int, max_txid: int, size: int) -> None:
        """A file of these transactions now exists under its name."""
        if min_txid != max_txid:
            self._others.add((min_txid, max_txid))
        elif self._first > self._last:
            self._first = self._last = min_txid
        elif min_txid == self._last + 1:
            self._last = min_txid
        elif not self._first <= min_txid <= self._last:
            self._others.update((txid, txid) for txid in range(self._first, self._last + 1))
            self._first = self._last = min_txid
        self._others.discard((self._last, self._last))
        self.last_size = size

    def forget(self, item: Range) -> None:
        """The file no longer exists."""
        if item in self._others:
            self._others.discard(item)
        elif item[0] == item[1] == self._first:
            self._first += 1
        elif item[0] == item[1] == self._last:
            self._last -= 1
        if self._first > self._last:
            self._first, self._last = 1, 0

    def remove(self, item: Range) -> None:
        """Delete a file. A missing one is no error."""
        self.file(*item).unlink(missing_ok=True)
        self.forget(item)

    def set_aside(self, items: list[Range], directory: Path) -> None:
        """Move files to another directory of the same file system: a branch that lost is kept."""
        directory.mkdir(parents=True, exist_ok=True)
        for item in items:
            if self.file(*item).exists():
                os.replace(self.file(*item), directory / filename(*item))
            self.forget(item)

    def expired(self, before: float, keep_from: int) -> list[Range]:
        """Files last changed before `before` (s since the epoch) whose transactions all lie below `keep_from`.

        The newest file is never among them. Stops at the first young file of the run, so the cost is what it finds.
        """
        newest = self.newest()
        found = [item for item in self._others if item != newest and item[1] < keep_from and self._older(item, before)]
        for txid in range(self._first, self._last + 1):
            if txid >= keep_from or (txid, txid) == newest or not self._older((txid, txid), before):
                break
            found.append((txid, txid))
        return found

    def is_ahead(self, now: float) -> bool:
        """Whether the oldest files were changed later than `now` (s since the epoch): the clock was wrong."""
        oldest = [*self._others, *([(self._first, self._first)] if self._first <= self._last else [])]
        return any(not self._older(item, now + AHEAD) for item in oldest)

    def set_back(self, now: float) -> None:
        """Have files that were changed later than `now` (s since the epoch) be changed now. Blocking.

        They would be young for as long as the clock was ahead, and everything after them would stay, too.
        """
        for item in self.ranges():
            if not self._older(item, now + AHEAD):
                with suppress(FileNotFoundError):
                    os.utime(self.file(*item), (now, now))

    def _older(self, item: Range, before: float) -> bool:
        try:
            return self.file(*item).stat().st_mtime < before
        except FileNotFoundError:
            return True
