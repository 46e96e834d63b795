"""The backup's part of ``GET /metrics``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from litefs.backup.progress import BackupStatistics

PREFIX = "litefs_backup_"


class BackupCollector(Collector):
    """Asks for the state of the moment whenever metrics are read."""

    def __init__(self, statistics: Callable[[], BackupStatistics]) -> None:
        self._statistics = statistics

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: names are known when they are collected."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Gauges and counters."""
        found = self._statistics()
        lag = math.nan if found.lag_transactions is None else found.lag_transactions
        yield _gauge("active", "Whether this node keeps the backup up to date now.", found.active)
        yield _gauge("lag_transactions", "Transactions that are published and not in the backup.", lag)
        yield _gauge("lag_seconds", "Age of the oldest transaction that is not in the backup.", found.lag_seconds)
        yield _gauge("failing", "Whether the backup cannot be written now.", bool(found.error))
        yield _gauge("troubled_databases", "Databases that cannot be backed up now.", len(found.troubles))
        yield _gauge("last_upload_timestamp_seconds", "When something was stored last; 0 before that.",
                     found.last_upload or 0)  # fmt: skip
        yield _counter("uploads", "Files stored.", found.uploads)
        yield _counter("upload_bytes", "Bytes of the files stored.", found.upload_bytes)
        yield _counter("restores", "Databases fetched from the backup.", found.restores)
        yield _counter("errors", "Errors, of the backup or of one database.", found.errors)
        if (verified := found.verification) is not None:
            yield _gauge("verified_timestamp_seconds", "When the whole backup was read last.", verified.time)
            yield _gauge("verified_seconds", "How long that took.", verified.seconds)
            yield _gauge("verify_problems", "What was wrong with it.", verified.count)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, text, value=value)
