"""GET /events: shapes, order, and how it ends."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from litefs.http.events import encode, encode_init, timestamp
from litefs.ltx import EMPTY
from litefs.store.events import BUFFER, PrimaryChangeEvent, TxEvent

from .fakes import FakeNode, FakePrimary, FakeRole
from .server import Server, wait_until
from .test_golden import GOLDEN


def test_lines() -> None:
    tx = TxEvent("ü<&>.db", 15, 1 << 63 | 0xBF33, 4096, 2, 1795300718302)
    assert encode(tx).decode() == (
        '{"type":"tx","db":"ü<&>.db","data":{"txID":"000000000000000f","postApplyChecksum":"800000000000bf33",'
        '"pageSize":4096,"commit":2,"timestamp":"2026-11-21T22:38:38.302Z"}}\n'
    )
    assert encode(PrimaryChangeEvent(True, None)) == b'{"type":"primaryChange","data":{"isPrimary":true}}\n'
    assert encode_init(FakeRole()) == b'{"type":"init","data":{"isPrimary":true}}\n'
    replica = FakeRole(is_primary=False, primary=FakePrimary("h"))
    assert encode_init(replica) == b'{"type":"init","data":{"isPrimary":false,"hostname":"h"}}\n'
    assert encode_init(FakeRole(is_primary=False)) == b'{"type":"init","data":{"isPrimary":false}}\n'


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (1, "1970-01-01T00:00:00.001Z"), (1700000000120, "2023-11-14T22:13:20.120Z")],
)
def test_timestamps(ms: int, text: str) -> None:
    assert timestamp(ms) == text


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="recorded events of LiteFS are not here")
@pytest.mark.parametrize("which", ["primary", "replica"])
def test_recorded_lines_are_made_again(which: str) -> None:
    for line in (GOLDEN / f"events-{which}.ndjson").read_bytes().splitlines(keepends=True):
        event = json.loads(line)
        data = event["data"]
        if event["type"] == "tx":
            made = encode(
                TxEvent(
                    event["db"],
                    int(data["txID"], 16),
                    int(data["postApplyChecksum"], 16),
                    data["pageSize"],
                    data["commit"],
                    _milliseconds(data["timestamp"]),
                )
            )
        else:
            primary = FakePrimary(data["hostname"]) if "hostname" in data else None
            made = encode_init(FakeRole(is_primary=data["isPrimary"], primary=primary))
        assert made == line


def _milliseconds(text: str) -> int:
    from datetime import datetime

    return round(datetime.fromisoformat(text).timestamp() * 1000)


def test_events_come_at_once_and_after_init(node: FakeNode, server: Server, http: httpx.Client) -> None:
    with http.stream("GET", "/events") as response:
        assert response.headers["content-type"] == "application/json"
        lines = response.iter_lines()
        assert json.loads(next(lines)) == {"type": "init", "data": {"isPrimary": True}}
        for txid in (1, 2):
            server.call(node.store.commit, "db", txid)
            event = json.loads(next(lines))
            assert (event["type"], event["db"], event["data"]["txID"]) == ("tx", "db", f"{txid:016x}")
        server.call(node.store.events.publish, PrimaryChangeEvent(False, "other"))
        assert json.loads(next(lines)) == {"type": "primaryChange", "data": {"isPrimary": False, "hostname": "other"}}
        server.call(node.store.events.publish, TxEvent("db", 3, EMPTY, 512, 0, 0))
        assert json.loads(next(lines))["data"]["commit"] == 0


def test_events_end_when_the_node_closes(node: FakeNode, server: Server, http: httpx.Client) -> None:
    with http.stream("GET", "/events") as response:
        lines = response.iter_lines()
        next(lines)
        server.call(node.services.closing.set)
        assert list(lines) == []


def test_a_client_that_leaves_is_forgotten(node: FakeNode, server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        text = b""
        while b"init" not in text:
            text += sock.recv(4096)
        assert len(node.store.events) == 1
    wait_until(lambda: len(node.store.events) == 0)


def test_a_client_that_is_too_slow_is_dropped(node: FakeNode, server: Server) -> None:
    def burst() -> None:
        for txid in range(2 * BUFFER):
            node.store.commit("db", txid)

    with server.http1() as http, http.stream("GET", "/events") as response:
        lines: Any = response.iter_lines()
        next(lines)
        server.call(burst)
        assert BUFFER <= len(list(lines)) < 2 * BUFFER
