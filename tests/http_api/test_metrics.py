"""GET /metrics and /debug/vars."""

from __future__ import annotations

import math
from collections.abc import Callable

import httpx
from prometheus_client import Gauge

from litefs.http.app import build

from .fakes import FakeNode
from .server import Server


def values(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_numbers(node: FakeNode, http: httpx.Client) -> None:
    db = node.add('my "db"', bytes(8192))
    db.counters.commits, db.counters.wal_writes = 5, 6
    node.streams.frames_sent['my "db"', "ltx:snapshot"] = 3
    node.streams.open = 2
    node.services.lags = {'my "db"': 0.25}
    response = http.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "litefs-id" not in response.headers
    got = values(response.text)
    label = r'{db="my \"db\""}'
    assert {name: value for name, value in got.items() if name.startswith("litefs_")} == {
        "litefs_db_count": 1,
        "litefs_is_primary": 1,
        "litefs_lag_seconds": 0,
        "litefs_subscriber_count": 0,
        "litefs_http_stream_count": 2,
        f"litefs_db_txid{label}": 7,
        f"litefs_db_ltx_count{label}": 3,
        f"litefs_db_ltx_bytes{label}": 120,
        f"litefs_db_ltx_reap_count{label}": 2,
        f"litefs_db_commit_count{label}": 5,
        f"litefs_db_database_write_count{label}": 0,
        f"litefs_db_journal_write_count{label}": 0,
        f"litefs_db_wal_write_count{label}": 6,
        f"litefs_db_shm_write_count{label}": 0,
        f"litefs_db_failed{label}": 0,
        f"litefs_db_lag_seconds{label}": 0.25,
        'litefs_http_frame_send_count{db="my \\"db\\"",type="ltx:snapshot"}': 3,
    }
    assert got["process_resident_memory_bytes"] > 1 << 20


def test_lag_of_a_replica(node: FakeNode, http: httpx.Client) -> None:
    node.become_replica()
    node.role.lag = 513
    assert values(http.get("/metrics").text)["litefs_lag_seconds"] == 0.513
    node.role.lag = None  # no heartbeat yet
    assert values(http.get("/metrics").text)["litefs_lag_seconds"] == math.inf


def test_a_disk_that_has_failed(node: FakeNode, http: httpx.Client) -> None:
    node.add("sound", bytes(8192))
    node.add("lost", bytes(8192)).disk.failed = True
    got = values(http.get("/metrics").text)
    assert (got['litefs_db_failed{db="lost"}'], got['litefs_db_failed{db="sound"}']) == (1, 0)


def test_collectors_of_plugins(node: FakeNode, make_server: Callable[..., Server]) -> None:
    gauge = Gauge("lease_renewals_count", "Of a plugin.", registry=None)
    gauge.set(4)
    node.services.collectors = [gauge]
    with make_server(build(node.services)).http1() as http:
        assert values(http.get("/metrics").text)["lease_renewals_count"] == 4


def test_debug_vars(node: FakeNode, http: httpx.Client) -> None:
    node.add("db", bytes(8192))
    response = http.get("/debug/vars")
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    store = response.json()["store"]
    assert (store["isPrimary"], store["candidate"]) == (True, True)
    assert store["dbs"]["db"]["txid"] == "0000000000000007"
    assert store["dbs"]["db"]["checksum"] == "8000000000000009"
    assert set(response.json()) == {"cmdline", "memstats", "store"}
