"""What LiteFS answers, answered the same: status, headers and text of every recorded exchange that we have."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from litefs.http.app import build

from .fakes import FakeNode
from .server import Server

GOLDEN = Path(os.environ.get("LITEFS_GOLDEN", Path(__file__).parents[3] / "shared" / "golden")) / "http"

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="recorded answers of LiteFS are not here")

OTHER_NODE = "98EC43901059A3C0"

# Where this node says more than LiteFS, in the same place and with the same status.
LONGER = {
    "import garbage": "read database header: invalid database header",
    "import garbage, short": "read database header: invalid database header",
    "import truncated database": "read page 2: EOF",
    "stream bad map, empty": "EOF",
    "stream bad map, truncated": "EOF",
}
# Elsewhere, or on purpose not as in LiteFS: an export of a dropped database is a 404 here, not a 500 with a path.
LEFT_OUT = {"GET /debug/pprof/", "export of a dropped database", "export on a replica"}


def _exchanges() -> list[dict[str, Any]]:
    if not GOLDEN.is_dir():
        return []
    found = json.loads((GOLDEN / "exchanges.json").read_text())["exchanges"]
    return [
        one
        for one in found
        if one["case"] not in LEFT_OUT
        and not one["request"]["path"].startswith(("/halt", "/tx"))
        and not one["case"].endswith(("/halt", "/tx"))
    ]


def _body(request: dict[str, Any]) -> bytes:
    if request["body_hex"].startswith("("):  # page 1 of a database that has two
        return (GOLDEN / "export-my.db").read_bytes()[:4096]
    return bytes.fromhex(request["body_hex"])


@pytest.mark.parametrize("exchange", _exchanges(), ids=lambda exchange: exchange["case"])
def test_exchange(exchange: dict[str, Any], node: FakeNode, make_server: Callable[..., Server]) -> None:
    node.streams.peers = {int(OTHER_NODE, 16): object()}
    own = {"node-a": "1D4107F5C35627CD", "node-b": OTHER_NODE}[exchange["node"]]
    node.store.node_id = int(own, 16)
    if exchange["node"] == "node-b":
        node.become_replica()
    server = make_server(build(node.services))
    client = server.h2c() if "h2c" in exchange["note"] else server.http1()
    request, expected = exchange["request"], exchange["response"]
    with client as http:
        got = http.request(request["method"], request["path"], headers=request["headers"], content=_body(request))
    assert got.status_code == expected["status"]
    _assert_headers(got.headers, expected["headers"], own)
    if exchange["case"] in LONGER:
        assert LONGER[exchange["case"]] in got.text
        assert got.text.endswith("\n")
    elif request["path"] != "/metrics":
        assert got.text == expected["body"]


def _assert_headers(got: Any, expected: list[list[str]], own: str) -> None:
    names = {name.lower() for name, _ in expected} - {"content-length", "transfer-encoding"}
    assert names - set(got) == set()
    for name, value in expected:
        if name.lower() in {"content-type", "x-content-type-options"}:
            assert got[name] == value
    if "litefs-id" in names:
        assert got["litefs-id"] == own
    else:
        assert "litefs-id" not in got


def test_stream_over_http1(node: FakeNode, server: Server) -> None:
    with server.http1() as http:
        response = http.post("/stream", content=b"\0\0\0\0")
    assert (response.status_code, response.text) == (426, "Upgrade to HTTP/2 required\n")


def test_promotion_answers(node: FakeNode, server: Server) -> None:
    expected = {
        one["case"]: one["response"]["body"]
        for one in json.loads((GOLDEN / "exchanges-consul.json").read_text())["exchanges"]
        if "response" in one
    }
    node.become_replica()
    node.role.candidate = True
    with server.http1() as http:
        assert http.post("/promote").text == expected["promote"]
        node.leadership.error = "invalid response: code=500"
        assert http.post("/promote").text == expected["promote, the primary refuses the handoff"]
        node.role.primary = node.role.primary_hostname = None
        assert http.post("/promote").text == expected["promote with no primary known"]
        assert http.post("/import?name=q", content=b"x").text == expected["import with no primary"]
        node.store.cluster_id = ""
        text = http.get("/info").text.replace(str(node.store.data_dir), "/var/lib/litefs")
        assert text == expected["info with no primary known"]


@pytest.mark.parametrize("which", ["primary", "replica"])
def test_metric_names(which: str, node: FakeNode, server: Server) -> None:
    node.add("my.db", bytes(8192))
    node.streams.frames_sent["my.db", "ltx"] = 3
    with server.http1() as http:
        got = _families(http.get("/metrics").text)
    wanted = _families((GOLDEN / f"metrics-{which}.txt").read_text())
    ours = {name: kind for name, kind in wanted.items() if name.startswith(("litefs_", "process_"))}
    del ours["process_virtual_memory_max_bytes"]  # of the Go client library only
    assert {name: kind for name, kind in got.items() if name in ours} == ours


def _families(text: str) -> dict[str, str]:
    lines = (line.split() for line in text.splitlines() if line.startswith("# TYPE "))
    return {name: kind for _, _, name, kind in lines}
