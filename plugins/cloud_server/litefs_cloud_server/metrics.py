"""``GET /metrics`` for Prometheus, about the clusters that the token is for."""

from __future__ import annotations

from collections.abc import Iterable

import trio
from litefs_backup_store.head import Head
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from litefs_cloud_server.calls import Server, Visit
from litefs_cloud_server.clusters import Cluster

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_process = CollectorRegistry()
ProcessCollector(registry=_process)


async def metrics(visit: Visit) -> Response:
    """The numbers."""
    server = visit.server
    registered = await trio.to_thread.run_sync(server.registry.all)
    names = [each.name for each in registered if visit.token.reaches(each.name)]
    text = await trio.to_thread.run_sync(_render, server, names)
    return Response(text, headers={"content-type": CONTENT_TYPE})


def _render(server: Server, names: list[str]) -> bytes:
    clusters = {name: server.clusters.get(name) for name in names}
    heads = {name: cluster.vault.heads() for name, cluster in clusters.items()}
    families = [*_of_databases(heads), *_of_clusters(server, clusters), *_of_requests(server)]
    return generate_latest(_Families(families)) + generate_latest(_process)


def _of_databases(heads: dict[str, list[Head]]) -> Iterable[Metric]:
    txid = _gauge("db_txid", "Newest transaction of a database.", ["cluster", "db"])
    size = _gauge("db_size_bytes", "Size of a database, 0 when it was deleted.", ["cluster", "db"])
    last = _gauge("db_last_timestamp_seconds", "When the newest transaction was made.", ["cluster", "db"])
    for cluster, found in heads.items():
        for head in found:
            labels = [cluster, head.database.encode("utf-8", "replace").decode()]
            txid.add_metric(labels, head.pos.txid)
            size.add_metric(labels, head.commit * head.page_size)
            last.add_metric(labels, head.timestamp / 1000)
    return txid, size, last


def _of_clusters(server: Server, clusters: dict[str, Cluster]) -> Iterable[Metric]:
    heard = _gauge("cluster_heard_timestamp_seconds", "When a node of the cluster was heard of last.", ["cluster"])
    for name, cluster in clusters.items():
        if cluster.heard is not None:
            heard.add_metric([name], cluster.heard)
    yield heard
    counters = server.counters
    for what, text, counts in (
        ("uploads", "LTX files that were stored since the start.", counters.uploads),
        ("upload_bytes", "Bytes of LTX files that were stored since the start.", counters.upload_bytes),
        ("snapshots", "Whole states that were read since the start.", counters.snapshots),
        ("restores", "States that were restored or uploaded since the start.", counters.restores),
    ):
        family = CounterMetricFamily(f"litefs_cloud_{what}", text, labels=["cluster"])
        for name in clusters:
            family.add_metric([name], counts.get(name, 0))
        yield family


def _of_requests(server: Server) -> Iterable[Metric]:
    family = CounterMetricFamily(
        "litefs_cloud_requests", "Requests that were answered since the start.", labels=["method", "path", "status"]
    )
    for (method, path, status), count in sorted(server.counters.requests.items()):
        family.add_metric([method, path, str(status)], count)
    yield family


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"litefs_cloud_{name}", text, labels=labels)


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
