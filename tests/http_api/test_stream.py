"""POST /stream, up to where the replication server takes over."""

from __future__ import annotations

import contextlib
from typing import Any

import h2.events
import httpx
import pytest

from litefs.ltx import Pos
from litefs.replication import posmap

from .fakes import NODE_ID, FakeNode
from .server import RawH2, Server, wait_until

EMPTY_MAP = b"\0\0\0\0"
MARKED = {"Litefs-Stream": "1"}


@pytest.fixture(params=["http1", "h2c"])
def peer(request: pytest.FixtureRequest, server: Server) -> Any:
    """A replica's client: HTTP/2, or HTTP/1.1 with our own header."""
    with getattr(server, request.param)(headers=MARKED) as client:
        yield client


def test_what_the_replication_server_is_asked(node: FakeNode, peer: httpx.Client) -> None:
    node.streams.pieces = [b"one", b"two"]
    body = posmap.encode({"db": Pos(3, 1 << 63)})
    response = peer.post("/stream?filter=a%20b,c", content=body, headers={"Litefs-Id": "00000000000000AB"})
    assert (response.status_code, response.content) == (200, b"onetwo")
    assert response.headers["litefs-cluster-id"] == node.store.cluster_id
    assert node.streams.asked == [(body, {"a b", "c"}, 0xAB)]
    wait_until(lambda: node.streams.open == 0)
    for filter_, node_id in (("", "xyz"), (",", "")):
        node.streams.pieces = []
        peer.post("/stream", params={"filter": filter_}, content=EMPTY_MAP, headers={"Litefs-Id": node_id})
        assert node.streams.asked[-1] == (EMPTY_MAP, None, 0)


def test_headers_come_before_the_first_piece_and_the_end_with_the_client(node: FakeNode, peer: httpx.Client) -> None:
    with peer.stream("POST", "/stream", content=EMPTY_MAP) as response:
        assert response.status_code == 200
        assert node.streams.open == 1
    peer.close()
    wait_until(lambda: node.streams.open == 0)


def test_the_reset_of_one_stream_leaves_the_connection(node: FakeNode, server: Server) -> None:
    with RawH2(server.port) as client:
        streams = []
        for _ in range(2):
            streams.append(client.request("POST", "/stream", end=False))
            client.send(streams[-1], EMPTY_MAP)
            client.h2.end_stream(streams[-1])
            client.flush()
            client.until(lambda: client.ended(streams[-1], h2.events.ResponseReceived))
        client.h2.reset_stream(streams[0])
        client.flush()
        wait_until(lambda: node.streams.open == 1)
        info = client.request("GET", "/info")
        client.until(lambda: client.ended(info, h2.events.StreamEnded))
        assert not client.ended(streams[1], h2.events.StreamReset)


def test_a_stream_that_does_not_end_is_cut_off_when_the_node_stops(
    node: FakeNode, server: Server, peer: httpx.Client
) -> None:
    with peer.stream("POST", "/stream", content=EMPTY_MAP) as response:
        server.stop()
        assert node.streams.open == 0
        with contextlib.suppress(httpx.RemoteProtocolError):
            assert response.read() == b""


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b"", {}, 400, "EOF"),
        (b"\0\0\0\1", {}, 400, "EOF"),
        (EMPTY_MAP, {"Litefs-Id": f"{NODE_ID:016X}"}, 400, "cannot connect to self"),
        (EMPTY_MAP, {"Litefs-Id": f"{NODE_ID:016x}"}, 400, "cannot connect to self"),
    ],
)
def test_refusals(body: bytes, headers: dict[str, str], status: int, text: str, peer: httpx.Client) -> None:
    response = peer.post("/stream", content=body, headers=headers)
    assert response.status_code == status
    assert text in response.text


def test_a_replica_refuses(node: FakeNode, peer: httpx.Client) -> None:
    node.become_replica()
    response = peer.post("/stream", content=EMPTY_MAP)
    assert (response.status_code, response.text) == (503, "lease expired\n")


def test_http1_without_the_mark(server: Server) -> None:
    for headers in ({}, {"Litefs-Stream": "0"}):
        with server.http1(headers=headers) as client:
            response = client.post("/stream", content=EMPTY_MAP)
        assert (response.status_code, response.text) == (426, "Upgrade to HTTP/2 required\n")
