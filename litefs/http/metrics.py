"""``GET /metrics`` for Prometheus, under LiteFS's names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import trio
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from litefs.http.exchange import Exchange
from litefs.http.services import Services

if TYPE_CHECKING:
    from litefs.store import Database

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# The library insists on _total at the end of a counter's name; LiteFS's counters end in _count.
_TOTAL = re.compile(rb"^(# (?:HELP|TYPE) litefs_\w+_count)_total ", re.MULTILINE)

_OF_DATABASES: tuple[tuple[str, str, str, Callable[[Database], float]], ...] = (
    ("db_txid", "gauge", "Current transaction ID.", lambda db: db.published.txid),
    ("db_ltx_count", "gauge", "Number of LTX files on disk.", lambda db: len(db.ltx_dir)),
    ("db_ltx_bytes", "gauge", "Size of the newest LTX file on disk.", lambda db: db.ltx_dir.last_size),
    ("db_ltx_reap_count", "gauge", "Number of LTX files removed by retention.", lambda db: db.ltx_dir.reaped),
    ("db_commit_count", "counter", "Number of database commits.", lambda db: db.counters.commits),
    ("db_database_write_count", "counter", "Writes to the database file.", lambda db: db.counters.database_writes),
    ("db_journal_write_count", "counter", "Writes to the journal file.", lambda db: db.counters.journal_writes),
    ("db_wal_write_count", "counter", "Writes to the WAL file.", lambda db: db.counters.wal_writes),
    ("db_shm_write_count", "counter", "Writes to the shared memory file.", lambda db: db.counters.shm_writes),
    (
        "db_failed",
        "gauge",
        "Whether the disk has failed to store it: no commits until the node is started again.",
        lambda db: db.disk.failed,
    ),
)


class Metrics:
    """The endpoint, with the collectors of the process and of plugins."""

    def __init__(self, services: Services) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        for collector in services.collectors:
            self._registry.register(collector)

    async def __call__(self, exchange: Exchange, services: Services) -> Response:
        """Numbers are taken at once; a worker makes the text of them, which takes a while for many databases."""
        count = len(await trio.to_thread.run_sync(services.store.names))
        families = [*_of_node(services, count), *_of_databases(services)]
        text = await trio.to_thread.run_sync(self._render, families)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    def _render(self, families: list[Metric]) -> bytes:
        return _TOTAL.sub(rb"\1 ", generate_latest(_Families(families))) + generate_latest(self._registry)


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_node(services: Services, databases: int) -> Iterable[Metric]:
    role, store = services.role, services.store
    lag = 0 if role.is_primary else role.lag_ms()
    streams = len(services.streams)
    yield _gauge("db_count", "Number of managed databases.", databases)
    yield _gauge("is_primary", "Primary status of the node.", role.is_primary)
    # Unknown until the first heartbeat: infinite, so that an alert on lag fires.
    yield _gauge("lag_seconds", "Lag behind the primary node, in seconds.", math.inf if lag is None else lag / 1000)
    yield _gauge("subscriber_count", "Number of subscribers to transactions.", len(store.subscriptions))
    yield _gauge("http_stream_count", "Number of streams currently connected.", streams)


def _of_databases(services: Services) -> Iterable[Metric]:
    databases = sorted(services.store.open_databases(), key=lambda db: db.name)
    for name, kind, text, value in _OF_DATABASES:
        yield _by_database(name, kind, text, {db.name: value(db) for db in databases})
    lags = {db.name: services.lags.get(db.name, 0.0) for db in databases}
    yield _by_database("db_lag_seconds", "gauge", "Seconds between commit and apply of the last LTX file.", lags)
    frames = Metric("litefs_http_frame_send_count", "Number of frames sent.", "counter")
    for (db, kind), count in services.streams.frames_sent.items():
        frames.add_sample(frames.name, {"db": db, "type": kind}, count)
    yield frames


def _gauge(name: str, text: str, value: float) -> Metric:
    family = Metric(f"litefs_{name}", text, "gauge")
    family.add_sample(family.name, {}, value)
    return family


def _by_database(name: str, kind: str, text: str, values: Mapping[str, float]) -> Metric:
    family = Metric(f"litefs_{name}", text, kind)
    for db, value in values.items():
        family.add_sample(family.name, {"db": db}, value)
    return family
