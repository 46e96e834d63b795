"""The chunked transfer coding."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litefs.errors import StreamError
from litefs.replication.chunked import ChunkedBody


def decode(data: bytes, cuts: list[int]) -> tuple[bytes, bool]:
    body, out = ChunkedBody(), b""
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in zip(edges, edges[1:], strict=False):  # noqa: RUF007
        body.feed(data[start:end])
        while (piece := body.next()) is not None:
            out += piece
    return out, body.ended


def encode(pieces: list[bytes]) -> bytes:
    """As h11 does it."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.next_event()
    server.next_event()
    server.send(h11.Response(status_code=200, headers=[("Transfer-Encoding", "chunked")]))
    return b"".join((server.send(h11.Data(data=piece)) or b"") for piece in pieces) + (
        server.send(h11.EndOfMessage()) or b""
    )


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(0, 2000), max_size=8))
def test_round_trip(pieces: list[bytes], cuts: list[int]) -> None:
    assert decode(encode(pieces), cuts) == (b"".join(pieces), True)


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=4))
def test_byte_by_byte(pieces: list[bytes]) -> None:
    data = encode(pieces)
    assert decode(data, list(range(len(data)))) == (b"".join(pieces), True)
    assert decode(data[:-1], []) == (b"".join(pieces), False)


def test_extensions_and_trailers_are_skipped() -> None:
    assert decode(b"3 ; name=value\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", []) == (b"abc", True)


@pytest.mark.parametrize(
    "data", [b"x\r\n", b"\r\n", b"-1\r\n", b"+1\r\n", b"1_0\r\n", b"1\r\nab\r\n", b"f" * 16 + b"\r\n"]
)
def test_refused(data: bytes) -> None:
    with pytest.raises(StreamError, match=r"broke HTTP/1\.1"):
        decode(data, [])


def test_an_endless_line_is_refused() -> None:
    with pytest.raises(StreamError, match="never ends"):
        decode(b"0" * 5000, [])


def test_a_big_chunk_is_not_held() -> None:
    body = ChunkedBody()
    body.feed(b"7fffffff\r\n")
    assert body.next() is None
    for _ in range(100):
        body.feed(bytes(100_000))
        piece = body.next()
        assert piece is not None
        assert len(piece) == 100_000
        assert body.next() is None
