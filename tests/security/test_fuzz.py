"""Bytes of any kind into what reads the network: it refuses with its own error, in bounded memory, or understands."""

from __future__ import annotations

import contextlib
import io
import struct
from contextlib import suppress

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from litefs import ltx
from litefs.errors import BadName, LTXError, StreamError
from litefs.ltx import MAX_TIME, Pos
from litefs.replication import frames, posmap, wire
from litefs.replication.chunked import ChunkedBody
from litefs.replication.frames import FrameParser
from litefs.store.names import MAX_LENGTH, check_name

FUZZ = settings(deadline=None, max_examples=200)

u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 64) - 1)
names = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=60)
positions = st.builds(Pos, u64, u64)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data cut at some places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[low:high] for low, high in zip([0, *places], [*places, len(data)], strict=True)]


# ------------------------------------------------------------------------------------------------------ position map


@FUZZ
@given(st.dictionaries(names, positions, max_size=20))
def test_position_maps_come_back(content: dict[str, Pos]) -> None:
    assert posmap.decode(posmap.encode(content)) == content


@FUZZ
@given(st.binary(max_size=300))
def test_any_position_map(body: bytes) -> None:
    try:
        found = posmap.decode(body)
    except StreamError:
        return
    assert posmap.decode(posmap.encode(found)) == found


@FUZZ
@given(st.dictionaries(names, positions, min_size=1, max_size=5), st.data())
def test_damaged_position_maps(content: dict[str, Pos], data: st.DataObject) -> None:
    body = bytearray(posmap.encode(content))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = posmap.decode(bytes(body))
    except StreamError:
        return
    assert all("/" not in name and "\0" not in name for name in found)


@FUZZ
@given(u32, st.binary(max_size=100))
def test_counts_that_are_lies(count: int, rest: bytes) -> None:
    with contextlib.suppress(StreamError):
        assert len(posmap.decode(struct.pack(">I", count) + rest)) == count


# ------------------------------------------------------------------------------------------------------------ frames

some_frames = st.lists(
    st.one_of(
        st.builds(frames.ltx, names, st.binary(max_size=500)),
        st.builds(frames.hwm, u64, names),
        st.builds(frames.heartbeat, st.integers(0, MAX_TIME)),
        st.builds(frames.drop_db, names),
        st.builds(frames.handoff, names),
        st.sampled_from([frames.READY, frames.END]),
    ),
    max_size=8,
).map(b"".join)


def parse(data: list[bytes]) -> list[object]:
    """All frames, the data of LTX files put together: where the bytes were cut does not matter."""
    parser, found, held = FrameParser(), list[object](), b""
    for piece in data:
        for frame in parser.feed(piece):
            if isinstance(frame, frames.LTXData):
                held += bytes(frame.data)
            else:
                found += [held, frame] if held else [frame]
                held = b""
        assert len(parser._held) < 5 << 10
    return found


@FUZZ
@given(some_frames, st.lists(st.integers(0), max_size=10))
def test_frames_wherever_they_are_cut(data: bytes, cuts: list[int]) -> None:
    assert parse(pieces(data, cuts)) == parse([data])


@FUZZ
@given(some_frames, st.binary(max_size=50), st.lists(st.integers(0), max_size=5))
def test_any_frames(data: bytes, garbage: bytes, cuts: list[int]) -> None:
    with contextlib.suppress(StreamError):
        parse(pieces(data + garbage, cuts))


@FUZZ
@given(st.sampled_from([1, 4, 5, 6]), u64, u32, st.binary(max_size=50))
def test_lengths_of_frames_that_are_lies(kind: int, number: int, length: int, rest: bytes) -> None:
    head = struct.pack(">IQI", kind, number, length) if kind in (1, 6) else struct.pack(">II", kind, length)
    parser = FrameParser()
    try:
        list(parser.feed(head + rest))
    except StreamError:
        return
    assert length <= frames.MAX_LEASE_ID


# -------------------------------------------------------------------------------------------------------------- HTTP


def unchunk(data: list[bytes]) -> tuple[bytes, bool]:
    body, found = ChunkedBody(), b""
    for piece in data:
        body.feed(piece)
        while (part := body.next()) is not None:
            found += bytes(part)
    return found, body.ended


@FUZZ
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=6), st.lists(st.integers(0), max_size=10))
def test_chunked_bodies_wherever_they_are_cut(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    assert unchunk(pieces(data, cuts)) == (b"".join(parts), True)


@FUZZ
@given(st.lists(st.binary(max_size=2000), max_size=5))
def test_any_chunked_body(data: list[bytes]) -> None:
    body = ChunkedBody()
    try:
        for piece in data:
            body.feed(piece)
            while body.next() is not None:
                pass
            assert len(body._data) - body._at < 8 << 10
    except StreamError:
        pass


heads = st.lists(
    st.one_of(
        st.sampled_from([
            b"HTTP/1.1 200 OK", b"HTTP/1.1 426 Upgrade Required", b"HTTP/1.1 100 Continue", b"HTTP/2.0 200", b"",
            b"Content-Length: 5", b"Content-Length: -5", b"Content-Length: 99999999999999999999", b"Content-Length: 7",
            b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Connection: close", b"5", b"hello", b"0",
        ]),
        st.binary(max_size=100),
    ),
    max_size=12,
).map(b"\r\n".join)  # fmt: skip


@FUZZ
@given(heads)
def test_any_answer_to_our_requests(answer: bytes) -> None:
    """Either it is an answer, or a StreamError; never anything else, and never a wait for more than was sent."""

    async def ask() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(answer)
        await theirs.send_eof()
        response = wire._Http1Response(ours, "x", wire.SILENCE)
        with trio.fail_after(5), suppress(StreamError):
            await response.request("POST", "/stream", b"", {})
            while await response.receive():
                pass

    trio.run(ask)


# ------------------------------------------------------------------------------------------------------------- names


@FUZZ
@given(st.text(max_size=300))
def test_a_name_that_passes_is_one_file_in_the_directory(name: str) -> None:
    try:
        check_name(name)
    except BadName:
        return
    assert "/" not in name
    assert "\0" not in name
    assert name not in (".", "..", "")
    assert len(name.encode("utf-8", "surrogateescape")) <= MAX_LENGTH


@pytest.mark.parametrize("name", ["\ud800", "a\udcffb\ud83d"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(BadName):
        check_name(name)


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes_as_an_ltx_file(data: bytes) -> None:
    try:
        ltx.verify(io.BytesIO(b"LTX1" + data))
    except LTXError:
        return
