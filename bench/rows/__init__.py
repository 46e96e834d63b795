"""The measurements, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.figures import Figure
from bench.rows import backup, bulk, commits, proxy, reads, replication, size, start
from bench.session import Session

Row = Callable[[Session], Iterator[Figure]]

ROWS: dict[str, Row] = {
    "reads": reads.run,
    "commits": commits.run,
    "replicated": replication.commits,
    "visible": replication.visible,
    "bulk": bulk.transfers,
    "snapshot": bulk.commits_during_snapshot,
    "proxy": proxy.run,
    "backup": backup.commits,
    "restore": backup.restore,
    "history": backup.history,
    "start": start.run,
    "size": size.run,
}
