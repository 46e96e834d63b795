"""How far the backup is: what it lacks, since when, what was sent, and what went wrong."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litefs.ltx import Pos

MARKS = 64
"""Moments that are remembered of a database which is behind; more are told apart less exactly."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of reading the whole backup.

    Attributes:
        time: when it ended, seconds since the epoch.
        seconds: that it took.
        databases: how many were read.
        problems: what is wrong; a few of them where there are many.
        count: how many problems there are.
    """

    time: float
    seconds: float
    databases: int
    problems: tuple[str, ...] = ()
    count: int = 0


@dataclass(frozen=True, slots=True)
class BackupStatistics:
    """The state of a node's backup at one moment.

    Attributes:
        type, url: which one; the URL is empty until this node has been primary.
        active: whether this node, as the primary, keeps it up to date now.
        lag_transactions: published here and not stored there; None before the backup has said where it stands.
        lag_seconds: since the oldest of those was published, or since this node became primary where it is not known.
        uploads, upload_bytes, restores, errors: counted since the start of the process.
        last_upload: when one was stored, seconds since the epoch; None before the first.
        error: what keeps it from working now; empty while it works.
        last_error, last_error_time: the last one, even if it is over; empty and None without one.
        troubles: for each database that is not backed up now, why.
        verification: what came of the last periodic check; None without one.
    """

    type: str = ""
    url: str = ""
    active: bool = False
    lag_transactions: int | None = 0
    lag_seconds: float = 0.0
    uploads: int = 0
    upload_bytes: int = 0
    restores: int = 0
    errors: int = 0
    last_upload: float | None = None
    error: str = ""
    last_error: str = ""
    last_error_time: float | None = None
    troubles: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    verification: Verification | None = None


@dataclass(slots=True)
class _Lag:
    """What a database's backup lacks: marks say until which transaction, published from which moment on."""

    stored: int
    marks: deque[tuple[int, float]] = field(default_factory=deque)
    width: float = 0.0  # seconds that one mark stands for

    def add(self, txid: int, now: float) -> None:
        """A transaction was published; one mark stands for more of them when there are too many."""
        if self.marks and now - self.marks[-1][1] < self.width:
            self.marks[-1] = txid, self.marks[-1][1]
            return
        if len(self.marks) == MARKS:
            old = list(self.marks)
            self.marks = deque((late, first) for (_, first), (late, _) in zip(old[::2], old[1::2], strict=True))
            self.width = (now - old[0][1]) / (MARKS // 2)
        self.marks.append((txid, now))


class Progress:
    """Written by the backup's service and its sessions, in trio's loop; any thread may ask for `statistics`.

    Args:
        now: seconds since the epoch.
        clock: seconds of a clock that only goes forward.

    Attributes:
        troubles: see `BackupStatistics`.
    """

    def __init__(self, *, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic) -> None:
        self.troubles: dict[str, str] = {}
        self.url = ""
        self._now = now
        self._clock = clock
        self._since: float | None = None  # when this node became primary
        self._known = False  # whether the backup has said where it stands since then
        self._lags: dict[str, _Lag] = {}  # of databases that are behind
        self._uploads = self._bytes = self._restores = self._errors = 0
        self._last_upload: float | None = None
        self._error = self._last_error = ""
        self._error_time: float | None = None

    # -------------------------------------------------------------------------------------------------- what happens

    def begin(self, url: str) -> None:
        """This node has become primary."""
        self.url = url
        self._since = self._clock()
        self._known = False

    def end(self) -> None:
        """It is primary no more: the backup is somebody else's."""
        self._since = None
        self._lags.clear()
        self.troubles.clear()
        self._error = ""

    def published(self, name: str, pos: Pos) -> None:
        """A database has moved to a position."""
        lag = self._lags.setdefault(name, _Lag(pos.txid - 1))
        if pos.txid > max(lag.stored, lag.marks[-1][0] if lag.marks else 0):
            lag.add(pos.txid, self._clock())

    def looked(self, local: Mapping[str, Pos], remote: Mapping[str, Pos]) -> None:
        """The backup has said where it stands."""
        self._known = True
        for name, pos in local.items():
            there = remote.get(name)
            self._reached(name, there.txid if there else 0, pos)
        for name in [name for name in self._lags if name not in local]:
            del self._lags[name]

    def stored(self, name: str, pos: Pos, newest: Pos, size: int) -> None:
        """A file was stored that leads to a position; the newest one here; bytes of the file."""
        self._uploads += 1
        self._bytes += size
        self._last_upload = self._now()
        self.went_well()
        self._reached(name, pos.txid, newest)

    def settled(self, name: str) -> None:
        """There is nothing to send of a database; of one that was deleted before it was saved there never will be."""
        self._lags.pop(name, None)

    def restored(self, name: str) -> None:
        """A database was replaced by its backup, or fetched from it."""
        self._restores += 1
        self._lags.pop(name, None)

    def went_well(self) -> None:
        """The backup does what it is asked to."""
        self._error = ""

    def failed(self, text: str, *, passing: bool = False) -> None:
        """Something went wrong; `passing` if the rest goes on."""
        self._errors += 1
        self._last_error, self._error_time = text, self._now()
        if not passing:
            self._error = text

    def _reached(self, name: str, stored: int, newest: Pos) -> None:
        if stored >= newest.txid:
            self._lags.pop(name, None)
            return
        lag = self._lags.setdefault(name, _Lag(stored))
        lag.stored = stored
        while lag.marks and lag.marks[0][0] <= stored:
            lag.marks.popleft()
        self.published(name, newest)

    # ------------------------------------------------------------------------------------------------------- looking

    def statistics(self, type_: str = "", verification: Verification | None = None) -> BackupStatistics:
        """The state of this moment."""
        transactions, seconds = self._lag()
        return BackupStatistics(
            type=type_,
            url=self.url,
            active=self._since is not None,
            lag_transactions=transactions,
            lag_seconds=seconds,
            uploads=self._uploads,
            upload_bytes=self._bytes,
            restores=self._restores,
            errors=self._errors,
            last_upload=self._last_upload,
            error=self._error,
            last_error=self._last_error,
            last_error_time=self._error_time,
            troubles=dict(self.troubles),
            verification=verification,
        )

    def _lag(self) -> tuple[int | None, float]:
        since, now = self._since, self._clock()
        if since is None:
            return 0, 0.0
        if not self._known:
            return None, now - since
        behind = [(lag.stored, list(lag.marks)) for lag in list(self._lags.values())]
        oldest = min((marks[0][1] for _, marks in behind if marks), default=now)
        return sum(marks[-1][0] - stored for stored, marks in behind if marks), now - oldest
