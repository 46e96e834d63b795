"""Heads of messages: what is understood, what is refused, and that nothing else ever happens."""

from __future__ import annotations

import contextlib
import time

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefs_proxy_fly.heads import (
    CHUNKED,
    UNTIL_CLOSE,
    BadRequest,
    BadResponse,
    hopeless,
    parse_request,
    parse_response,
)


def request(*lines: str, start: str = "GET / HTTP/1.1") -> bytes:
    return "".join(f"{line}\r\n" for line in (start, *lines, "")).encode("latin-1")


def response(*lines: str, start: str = "HTTP/1.1 200 OK") -> bytes:
    return request(*lines, start=start)


# ---- requests


def test_an_ordinary_request_is_forwarded_byte_by_byte() -> None:
    data = request("Host: x", "X-Odd:  spaces\t", "Cookie: a=1", "cookie: b=2", "X-Empty:", "X: \xe9")
    parsed = parse_request(data)
    assert parsed.head == data
    assert (parsed.method, parsed.target, parsed.length, parsed.keep_alive) == (b"GET", b"/", 0, True)
    assert list(parsed.cookies) == [b"a=1", b"b=2"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("Host: x", "Content-Length: 1", "Content-Length: 2"), 400),
        (request("Host: x", "Content-Length: 1", "Content-Length: 1"), 400),
        (request("Host: x", "Content-Length: 1, 1"), 400),
        (request("Host: x", "Content-Length: +1"), 400),
        (request("Host: x", "Content-Length: -1"), 400),
        (request("Host: x", "Content-Length: 0x1"), 400),
        (request("Host: x", "Content-Length: 1_0"), 400),
        (request("Host: x", "Content-Length: "), 400),
        (request("Host: x", "Content-Length: 99999999999999999999"), 400),
        (request("Host: x", "Content-Length: 1", "Transfer-Encoding: chunked"), 400),
        (request("Host: x", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 501),
        (request("Host: x", "Transfer-Encoding: gzip, chunked"), 501),
        (request("Host: x", "Transfer-Encoding: chunked, identity"), 501),
        (request("Host: x", "Transfer-Encoding: xchunked"), 501),
        (request("Host: x", "Transfer-Encoding: \x0bchunked"), 400),
        (request("Host: x", "Transfer-Encoding : chunked"), 400),
        (request("Host: x", "Transfer-Encoding: chunked", start="POST / HTTP/1.0"), 400),
        (request("Host: x", " folded"), 400),
        (request("Host: x", "X: a", "\tfolded"), 400),
        (request("Host: x", ": no name"), 400),
        (request("Host: x", "no colon"), 400),
        (request("Host: x", "b\xe4d: name"), 400),
        (request("Host: x", "X: a\0b"), 400),
        (request("Host: x", "X: a\rb"), 400),
        (request("Host: x", "X: a\nContent-Length: 5"), 400),
        (b"GET / HTTP/1.1\nHost: x\r\n\r\n", 400),
        (request("Host: x", start="GET  / HTTP/1.1"), 400),
        (request("Host: x", start="GET / HTTP/1.1 "), 400),
        (request("Host: x", start="GET / HTTP/2.0"), 400),
        (request("Host: x", start="GET / http/1.1"), 400),
        (request("Host: x", start="GET /"), 400),
        (request("Host: x", start="G(T / HTTP/1.1"), 400),
        (request("Host: x", start="GET /a b HTTP/1.1"), 400),
        (request("Host: x", start="GET x HTTP/1.1"), 400),
        (request("Host: x", start="GET ftp://x/ HTTP/1.1"), 400),
        (request("Host: x", start="GET http://u@x/ HTTP/1.1"), 400),
        (request("Host: x", start="CONNECT x:1 HTTP/1.1"), 501),
        (request("Host: x", "Host: y"), 400),
        (request(), 400),
        (request("Host: x", "Expect: tea"), 417),
    ],
)
def test_refused(data: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_request(data)
    assert caught.value.status == status


def test_lengths() -> None:
    assert parse_request(request("Host: x", "content-LENGTH:\t7 ")).length == 7
    assert parse_request(request("Host: x", "Transfer-Encoding: Chunked")).length == CHUNKED


def test_what_concerns_the_connection_stays_on_it() -> None:
    data = request(
        "Host: x", "Connection: close", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: trailers"
    )
    parsed = parse_request(data)
    assert parsed.head == request("Host: x", "TE: trailers")
    assert not parsed.keep_alive


def test_an_http10_request_becomes_one_of_http11() -> None:
    parsed = parse_request(request(start="GET /a HTTP/1.0"), b"localhost:1")
    assert parsed.head == request("Host: localhost:1", start="GET /a HTTP/1.1")
    assert (parsed.http10, parsed.keep_alive) == (True, False)
    assert parse_request(request("Connection: Keep-Alive", start="GET /a HTTP/1.0")).keep_alive


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [("http://a.b:8/c?d", "/c?d", "a.b:8"), ("HTTP://a", "/", "a"), ("http://a?q", "/?q", "a"), ("*", "*", "x")],
)
def test_targets(target: str, path: str, host: str) -> None:
    parsed = parse_request(request("X: 1", "Host: x", start=f"OPTIONS {target} HTTP/1.1"))
    assert parsed.target == path.encode()
    lines = parsed.head.split(b"\r\n")
    assert lines[0] == f"OPTIONS {path} HTTP/1.1".encode()
    assert sorted(lines[1:3]) == sorted([b"X: 1", f"Host: {host}".encode()])


def test_methods_of_others() -> None:
    assert parse_request(request("Host: x", start="BREW /pot HTTP/1.1")).method == b"BREW"


@pytest.mark.parametrize(
    ("value", "passed"),
    [("websocket", b"websocket"), ("foo/2", b"foo/2"), ("h2c", b""), ("websocket, h2c", b""), ("TLS/1.2", b"")],
)
def test_upgrades(value: str, passed: bytes) -> None:
    parsed = parse_request(request("Host: x", "Connection: keep-alive, Upgrade", f"Upgrade: {value}"))
    assert parsed.upgrade == passed
    assert (b"Upgrade" in parsed.head) == bool(passed)
    assert parsed.head.count(b"Connection: Upgrade\r\n") == bool(passed)


def test_an_upgrade_that_the_connection_does_not_name_is_none() -> None:
    assert b"Upgrade" not in parse_request(request("Host: x", "Upgrade: websocket")).head


def test_expectation() -> None:
    assert parse_request(request("Host: x", "Content-Length: 1", "Expect: 100-Continue")).expects
    assert not parse_request(request("Host: x", "Content-Length: 0", "Expect: 100-continue")).expects


# ---- responses


def test_an_ordinary_response() -> None:
    parsed = parse_response(response("Content-Length: 3", "Connection: keep-alive", "X: y"), b"GET")
    assert (parsed.status, parsed.reason, parsed.length, parsed.keep_alive) == (200, b"OK", 3, True)
    assert parsed.fields == b"Content-Length: 3\r\nX: y\r\n"


@pytest.mark.parametrize(
    ("method", "data", "length"),
    [
        (b"HEAD", response("Content-Length: 3"), 0),
        (b"HEAD", response("Transfer-Encoding: chunked"), 0),
        (b"GET", response("Transfer-Encoding: chunked"), CHUNKED),
        (b"GET", response("Transfer-Encoding: chunked", "Content-Length: 3"), CHUNKED),
        (b"GET", response(), UNTIL_CLOSE),
        (b"GET", response(start="HTTP/1.1 204 No Content"), 0),
        (b"GET", response("Content-Length: 3", start="HTTP/1.1 304 Not Modified"), 0),
        (b"GET", response(start="HTTP/1.1 100 Continue"), 0),
    ],
)
def test_length_of_a_response(method: bytes, data: bytes, length: int) -> None:
    parsed = parse_response(data, method)
    assert parsed.length == length
    assert not (length == CHUNKED and b"Content-Length" in parsed.fields)


def test_keep_alive_of_a_response() -> None:
    assert not parse_response(response("Connection: Close"), b"GET").keep_alive
    assert not parse_response(response(start="HTTP/1.0 200 OK"), b"GET").keep_alive
    assert parse_response(response("Connection: keep-alive", start="HTTP/1.0 200 OK"), b"GET").keep_alive
    assert parse_response(response(start="HTTP/1.1 200"), b"GET").reason == b""


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        response("Content-Length: 1", "Content-Length: 2"),
        response("Content-Length: x"),
        response("Transfer-Encoding: gzip"),
        response(" folded"),
        response(start="HTTP/1.1 20 OK"),
        response(start="HTTP/3 200 OK"),
    ],
)
def test_refused_responses(data: bytes) -> None:
    with pytest.raises(BadResponse):
        parse_response(data, b"GET")


# ---- anything

_WORDS = """
GET POST / http://h/ HTTP/1.1 HTTP/1.0 200 Host Content-Length Transfer-Encoding Connection Upgrade Expect Cookie
5 chunked close keep-alive websocket 100-continue x : , % ;
"""
_PIECES = st.sampled_from([*_WORDS.encode().split(), b" ", b"\r\n", b"\n", b"\r", b"\t", b"\0", b"\xff"])
_ANYTHING = st.lists(_PIECES | st.binary(max_size=3), max_size=40).map(b"".join)


@given(_ANYTHING)
@settings(max_examples=2000, deadline=None)
def test_nothing_but_our_own_errors(data: bytes) -> None:
    with contextlib.suppress(BadRequest):
        parsed = parse_request(data + b"\r\n\r\n")
        assert parse_request(parsed.head).head == parsed.head
    with contextlib.suppress(BadResponse):
        parse_response(data + b"\r\n\r\n", b"GET")
    hopeless(data, 0)


_NAME = st.sampled_from(["Host", "X", "Content-Length", "Transfer-Encoding", "Connection", "Cookie", "Upgrade", "Te"])
_VALUE = st.sampled_from(["x", "5", "chunked", "close", "a, b", "", " 7 ", "keep-alive", "Upgrade", "gzip"])


@given(
    st.sampled_from(["GET", "POST", "HEAD", "X"]),
    st.lists(st.tuples(_NAME, st.sampled_from([":", ": ", " :", ":\t"]), _VALUE), max_size=6),
)
@settings(max_examples=2000, deadline=None)
def test_another_reader_sees_the_same_request_in_what_is_forwarded(
    method: str, fields: list[tuple[str, str, str]]
) -> None:
    """h11 must understand what we pass on, and find the same end of the message."""
    try:
        parsed = parse_request(request(*("".join(each) for each in fields), start=f"{method} / HTTP/1.1"))
    except BadRequest:
        return
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(parsed.head)
    event = peer.next_event()
    assert isinstance(event, h11.Request)
    coding = [value for name, value in event.headers if name == b"transfer-encoding"]
    length = [int(value) for name, value in event.headers if name == b"content-length"]
    assert parsed.length == (CHUNKED if coding else length[0] if length else 0)
    assert event.method == method.encode()


@pytest.mark.parametrize("filler", [b" ", b"\t", b"a", b",", b":", b";", b"\r\nA:", b"a: b\r\n", b"\r\n", b"/", b"%"])
def test_no_input_takes_long(filler: bytes) -> None:
    begin = time.perf_counter()
    for start in (
        b"",
        b"GET ",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection:",
        b"HTTP/1.1 200 OK\r\nX:",
    ):
        data = start + filler * ((64 << 10) // len(filler))
        for end in (b"\r\n\r\n", b"\0\r\n\r\n", b"\n\r\n\r\n"):
            with contextlib.suppress(BadRequest):
                parse_request(data + end)
            with contextlib.suppress(BadResponse):
                parse_response(data + end, b"GET")
    assert time.perf_counter() - begin < 5
