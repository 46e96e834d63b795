"""The server below the application: protocols, clients that misbehave, the end."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import h2.events
import httpx
import pytest
import trio

from .server import RawH2, Server, wait_until

Make = Callable[..., Server]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """/big streams 256 MB, /fail breaks off, /early answers without reading, /stuck never reads, else: body size."""
    path = scope["path"]
    if path == "/raise":
        raise RuntimeError("on purpose")
    if path == "/stuck":
        await trio.sleep_forever()
    size = 0
    while path not in ("/early", "/fail", "/big"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"x-version", scope["http_version"].encode())]}
    )
    if path == "/fail":
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("on purpose")
    for _ in range(256 if path == "/big" else 0):
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
    await send({"type": "http.response.body", "body": b"%d" % size})


@pytest.fixture
def echoing(make_server: Make) -> Server:
    return make_server(echo)


@pytest.fixture(params=["http1", "h2c"])
def http(request: pytest.FixtureRequest, echoing: Server) -> Any:
    with getattr(echoing, request.param)() as client:
        yield client


def raw(server: Server, data: bytes, *, half_close: bool = False) -> bytes:
    with server.connect() as sock:
        sock.sendall(data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        out = b""
        try:
            while piece := sock.recv(65536):
                out += piece
        except ConnectionResetError:
            pass
        return out


# ----------------------------------------------------------------------------------------------------------- protocols


def test_versions(echoing: Server) -> None:
    with echoing.http1() as http1, echoing.h2c() as h2c:
        assert http1.get("/").headers["x-version"] == "1.1"
        assert h2c.get("/").headers["x-version"] == "2"


def test_upgrade_to_http2(echoing: Server) -> None:
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
    )
    with echoing.connect() as sock:
        sock.sendall(upgrade)
        out = b""
        while b"\0\0\1\0\0\0\0\0\x01" + b"0" not in out:  # a DATA frame of stream 1 with "0"
            out += sock.recv(4096)
    assert out.startswith(b"HTTP/1.1 101")


def test_upgrade_with_a_body_is_declined(echoing: Server) -> None:
    out = raw(
        echoing,
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    )
    assert out.startswith(b"HTTP/1.1 200")


def test_pipelining(echoing: Server) -> None:
    one = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    out = raw(echoing, one + one + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert out.count(b"HTTP/1.1 200") == 3


def test_http_1_0(echoing: Server) -> None:
    assert raw(echoing, b"GET / HTTP/1.0\r\n\r\n").endswith(b"0")


def test_an_answer_reaches_a_client_that_has_finished_sending(echoing: Server) -> None:
    assert raw(echoing, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", half_close=True).startswith(b"HTTP/1.1 200")


def test_expect_100_continue(echoing: Server) -> None:
    with echoing.connect() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 100")
        sock.sendall(b"ab")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_websocket_is_refused(node: Any, server: Server) -> None:
    out = raw(
        server,
        b"GET /events HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    assert out.startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b"GET\r\n\r\n",
        b"\0" * 100,
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 100_000,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\1\1\5\0\0\0\1\x82",  # headers without a path
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\5\0\0\0\0\0\1hello",  # data before headers
    ],
)
def test_garbage_closes_its_connection_only(data: bytes, echoing: Server, caplog: pytest.LogCaptureFixture) -> None:
    raw(echoing, data, half_close=True)
    with echoing.http1() as http:
        assert http.get("/").status_code == 200
    assert [record for record in caplog.records if record.levelname != "DEBUG" and record.name != "httpx"] == []


def test_an_http2_path_beyond_ascii_is_refused(echoing: Server) -> None:
    with RawH2(echoing.port) as client:
        odd = client.request("GET", "/ü")
        good = client.request("GET", "/")
        client.until(lambda: client.ended(good, h2.events.StreamEnded))
        assert client.ended(odd, h2.events.StreamReset)


# ------------------------------------------------------------------------------------------ applications that fail


def test_an_application_that_raises(http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    assert http.get("/raise").status_code == 500
    assert http.get("/").status_code == 200
    assert "http: GET /raise failed" in caplog.messages
    caplog.clear()


def test_a_response_that_fails_is_not_complete(http: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        http.get("/fail")
    assert http.get("/").status_code == 200


def test_an_answer_before_the_body_was_read(http: httpx.Client) -> None:
    """The upload may be cut short, but the answer arrives and nothing hangs."""
    assert http.post("/early", content=bytes(8 << 20)).text == "0"
    assert http.get("/").status_code == 200


# -------------------------------------------------------------------------------------------- flow control, memory


def test_a_response_nobody_reads_is_not_buffered(echoing: Server) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with RawH2(echoing.port) as client:
        big = client.request("GET", "/big")
        client.until(lambda: client.size(big) == 65535)
        client.h2.increment_flow_control_window(1 << 20)  # the connection's, not the stream's
        ping = client.request("GET", "/")
        client.until(lambda: client.ended(ping, h2.events.StreamEnded))  # other streams go on
        time.sleep(0.1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB


def test_an_upload_nobody_reads_stops_only_its_stream(echoing: Server) -> None:
    with RawH2(echoing.port) as client:
        client.until(lambda: client.h2.remote_settings.initial_window_size > 65535)
        stuck = client.request("POST", "/stuck", end=False)
        sent = 0
        while size := client.send(stuck, bytes(1 << 20)):
            sent += size
        assert sent == 1 << 20
        other = client.request("POST", "/", end=False)
        left = 4 << 20
        while left:
            client.until(lambda: client.h2.local_flow_control_window(other) > 0)
            left -= client.send(other, bytes(min(left, 1 << 20)))
        client.h2.end_stream(other)
        client.flush()
        client.until(lambda: client.ended(other, h2.events.StreamEnded))
        assert not client.ended(stuck, h2.events.StreamEnded)


def test_the_connection_window_survives_unread_uploads(echoing: Server) -> None:
    with RawH2(echoing.port) as client:
        client.until(lambda: client.h2.remote_settings.initial_window_size > 65535)
        client.h2.increment_flow_control_window(1 << 20)
        for _ in range(40):  # 40 MB that no application took, on a connection with a window of 16 MB
            stream = client.request("POST", "/early", end=False)
            client.send(stream, bytes(1 << 20))
            client.until(partial(client.ended, stream, h2.events.StreamEnded))
        last = client.request("POST", "/", end=False)
        client.until(lambda: client.h2.local_flow_control_window(last) >= 1 << 20)


@pytest.mark.alone
@pytest.mark.parametrize("protocol", ["http1", "h2c"])
def test_big_bodies_both_ways(protocol: str, echoing: Server) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with getattr(echoing, protocol)() as http:
        pieces = (bytes(1 << 20) for _ in range(64))
        assert http.post("/", content=pieces).text == str(64 << 20)
        with http.stream("GET", "/big") as response:
            assert sum(len(piece) for piece in response.iter_raw()) == (256 << 20) + 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB, of client and server


# ------------------------------------------------------------------------------------------------------------ the end


@pytest.mark.alone
def test_idle_connections_do_not_hold_up_the_end(echoing: Server) -> None:
    with echoing.http1() as http1, echoing.h2c() as h2c, echoing.connect():
        http1.get("/")
        h2c.get("/")
        started = time.monotonic()
        echoing.stop()
        assert time.monotonic() - started < 0.5


@pytest.mark.alone
@pytest.mark.parametrize(
    "request_", [b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"]
)
def test_requests_get_the_grace_and_no_more(request_: bytes, make_server: Make) -> None:
    server = make_server(echo, grace=0.3)
    with server.connect() as sock:
        sock.sendall(request_)
        time.sleep(0.1)  # /big is now blocked in a write that cannot be cancelled
        started = time.monotonic()
        server.stop()
        assert 0.2 < time.monotonic() - started < 1


@pytest.mark.alone
def test_streams_of_http2_do_not_hold_up_the_end(make_server: Make) -> None:
    server = make_server(echo, grace=0.3)
    with RawH2(server.port) as client:
        big = client.request("GET", "/big")
        client.until(lambda: client.size(big) == 65535)
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 1


def test_cancelling_the_server_ends_it_at_once(echoing: Server) -> None:
    async def main() -> None:
        from litefs.http.address import bind
        from litefs.http.serve import serve

        listener = bind("127.0.0.1:0")
        with trio.move_on_after(5) as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(serve, echo, [listener], trio.sleep_forever)
                stream = await trio.open_tcp_stream("127.0.0.1", listener.getsockname()[1])
                await stream.send_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
                await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
        assert not scope.cancelled_caught

    trio.run(main)


def test_a_connection_ends_with_its_client(echoing: Server) -> None:
    """Nothing lingers: neither the socket nor the task of a request whose client is gone."""
    import os

    def sockets() -> int:
        return len(os.listdir("/proc/self/fd"))

    with echoing.http1() as http:
        http.get("/")
        before = sockets()
        for _ in range(20):
            with echoing.connect() as sock:
                sock.sendall(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
            raw(echoing, b"GET / HTTP/1.0\r\n\r\n")
        wait_until(lambda: sockets() <= before)
