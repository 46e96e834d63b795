"""Bodies: every way to cut them into pieces gives the same payload, and broken ones are noticed."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefs_proxy_fly.bodies import BadBody, Body, Chunked, chunk, last_chunk, reader
from litefs_proxy_fly.heads import CHUNKED, UNTIL_CLOSE


def feed(body: Body, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Payload and what is behind the end."""
    payload = behind = b""
    for piece in pieces:
        if body.done:
            behind += piece
            continue
        taken, rest = body.take(piece)
        payload += taken
        behind += rest
    return payload, behind


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(at) if a < b]


@settings(deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=20)), st.binary(max_size=5), st.lists(st.integers(0, 10**6), max_size=20)
)
def test_chunks(payloads: list[bytes], behind: bytes, places: list[int]) -> None:
    data = b"".join(map(chunk, payloads)) + last_chunk(b"X-Sum: 1\r\n")
    body = reader(CHUNKED)
    assert feed(body, cut(data + behind, places)) == (b"".join(payloads), behind)
    assert body.done
    assert body.trailers == b"X-Sum: 1\r\n"
    body.ended()


@settings(deadline=None)
@given(st.binary(max_size=30), st.binary(max_size=5), st.lists(st.integers(0, 10**6), max_size=8))
def test_counted(payload: bytes, behind: bytes, places: list[int]) -> None:
    body = reader(len(payload))
    assert feed(body, cut(payload + behind, places)) == (payload, behind)
    assert body.done


def test_until_close() -> None:
    body = reader(UNTIL_CLOSE)
    assert feed(body, [b"a", b"b"]) == (b"ab", b"")
    assert not body.done
    body.ended()
    assert body.done


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1 \r\n",
        b" 1\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1;a\0\r\n",
        b"1;a\rb\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"0\r\nbad trailer\r\n",
        b"0\r\n folded: x\r\n",
        b"0\r\nX: y\n\r\n",
        b"1" * 5000,
        b"1;" + b"e" * 5000,
        b"0\r\n" + b"X: %b\r\n" % (b"y" * 1000) * 20,
    ],
)
def test_broken_chunks(data: bytes) -> None:
    with pytest.raises(BadBody):
        feed(Chunked(), [data])
    with pytest.raises(BadBody):
        feed(Chunked(), [bytes([byte]) for byte in data])


def test_extensions_are_dropped() -> None:
    assert feed(Chunked(), [b'3;a="b";c\r\nabc\r\n0;x\r\n\r\n'])[0] == b"abc"


def test_trailers_cannot_be_what_belongs_into_a_head() -> None:
    body = Chunked()
    feed(body, [b"0\r\nContent-Length: 5\r\nX: y\r\nTransfer-Encoding: chunked\r\nset-cookie: a\r\n\r\n"])
    assert body.trailers == b"X: y\r\n"


@pytest.mark.parametrize("length", [5, CHUNKED])
def test_an_early_end(length: int) -> None:
    body = reader(length)
    body.take(b"1\r\n")
    with pytest.raises(BadBody):
        body.ended()


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"1", b"0", b"\r\n", b"\n", b"a", b";", b"X: y", b"\r"]) | st.binary(max_size=2)))
def test_nothing_but_our_own_errors(pieces: list[bytes]) -> None:
    with contextlib.suppress(BadBody):
        feed(Chunked(), [piece for piece in pieces if piece])
