"""What has been written to one database since start; the metrics show it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Writes that arrived through the mount, by file, and transactions."""

    database_writes: int = 0
    journal_writes: int = 0
    wal_writes: int = 0
    shm_writes: int = 0
    commits: int = 0
