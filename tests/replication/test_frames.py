"""The frame codec against recorded streams, every cut, and rubbish."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litefs.errors import StreamError
from litefs.ltx import MAX_TIME
from litefs.replication import frames
from litefs.replication.frames import (
    HWM,
    DropDB,
    End,
    Frame,
    FrameParser,
    Handoff,
    Heartbeat,
    LTXData,
    LTXEnd,
    LTXStart,
    Ready,
    Term,
)

from . import golden


def parse(data: bytes, cuts: list[int] | None = None) -> list[Any]:
    """Frames of a stream cut at these offsets, with the pieces of each LTX file joined to bytes."""
    parser = FrameParser()
    found: list[Any] = []
    edges = [0, *sorted(cuts or []), len(data)]
    for start, end in pairwise(edges):
        for frame in parser.feed(data[start:end]):
            if isinstance(frame, LTXData) and isinstance(found[-1], bytes):
                found[-1] += bytes(frame.data)
            elif isinstance(frame, LTXData):
                found.append(bytes(frame.data))
            else:
                found.append(frame)
    assert parser.at_boundary
    return found


def expected(case: golden.Case) -> list[Any]:
    """What the recorder saw, in the shape of parse()."""
    out: list[Any] = []
    for frame in case.frames:
        if frame["type"] == 1:
            out += [LTXStart(frame["db"]), content_of(case, frame), LTXEnd()]
        else:
            out.append(recorded(frame))
    return out


def content_of(case: golden.Case, frame: dict[str, Any]) -> bytes:
    """The LTX file in a recorded frame."""
    content, at = b"", frame["offset"] + 16 + len(frame["db"].encode())
    for length in frame["chunk_lengths"]:
        content += case.body[at + 2 : at + 2 + length]
        at += 2 + length
    assert len(content) == frame["ltx"]["size"]
    return content


def recorded(frame: dict[str, Any]) -> Frame:
    """A recorded frame that is not an LTX file."""
    match frame["name"]:
        case "Ready":
            return Ready()
        case "End":
            return End()
        case "DropDB":
            return DropDB(frame["db"])
        case "Handoff":
            return Handoff(frame["lease_id"])
        case "HWM":
            return HWM(int(frame["txid"], 16), frame["db"])
    assert frame["name"] == "Heartbeat"
    return Heartbeat(frame["timestamp_ms"])


@golden.needs_golden
@pytest.mark.parametrize("name", golden.CASES)
def test_recorded_streams_parse_at_every_cut(name: str) -> None:
    case = golden.load(name)
    want = expected(case)
    assert parse(case.body) == want
    assert parse(case.body, list(range(1, len(case.body)))) == want  # byte by byte
    for cut in range(1, min(len(case.body), 1200)):
        assert parse(case.body, [cut]) == want


@golden.needs_golden
@pytest.mark.parametrize("name", golden.CASES)
def test_recorded_frames_are_what_we_encode(name: str) -> None:
    case = golden.load(name)
    for frame in case.frames:
        raw = case.body[frame["offset"] : frame["offset"] + frame["length"]]
        if frame["type"] == 1 and len(frame["chunk_lengths"]) == 1:
            content = raw[-2 - frame["ltx"]["size"] : -2]
            assert frames.ltx(frame["db"], content) == raw
        elif frame["type"] != 1:
            assert encode(*parse(raw)) == raw


def encode(frame: Frame) -> bytes:
    """One frame that is not an LTX file, as bytes."""
    if isinstance(frame, Ready):
        return frames.READY
    if isinstance(frame, End):
        return frames.END
    if isinstance(frame, DropDB):
        return frames.drop_db(frame.name)
    if isinstance(frame, Handoff):
        return frames.handoff(frame.lease_id)
    if isinstance(frame, HWM):
        return frames.hwm(frame.txid, frame.name)
    if isinstance(frame, Term):
        return frames.term(frame.term, whole=frame.whole)
    assert isinstance(frame, Heartbeat)
    return frames.heartbeat(frame.timestamp_ms)


names = st.text(min_size=1, max_size=40).filter(lambda s: 0 < len(s.encode("utf-8", "replace")) <= 160)
u64 = st.integers(0, 2**64 - 1)
simple = st.one_of(
    st.just(Ready()),
    st.just(End()),
    st.builds(DropDB, names),
    st.builds(Handoff, names),
    st.builds(HWM, u64, names),
    st.builds(Term, st.integers(0, frames.MAX_TERM), st.booleans()),
    st.builds(Heartbeat, st.integers(0, MAX_TIME)),
)


@settings(deadline=None)
@given(st.lists(simple, max_size=6), st.binary(max_size=200_000), st.lists(st.integers(0, 200_000), max_size=8))
def test_round_trip(some: list[Any], content: bytes, cuts: list[int]) -> None:
    stream = b"".join(map(encode, some)) + frames.ltx("a.db", content) + b"".join(map(encode, some))
    want = [*some, LTXStart("a.db"), *([content] if content else []), LTXEnd(), *some]
    assert parse(stream, [cut for cut in cuts if cut < len(stream)]) == want


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(1, 50))
def test_rubbish_is_a_stream_error_or_frames(data: bytes, step: int) -> None:
    parser = FrameParser()
    with suppress(StreamError):
        for start in range(0, len(data), step):
            list(parser.feed(data[start : start + step]))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 0),
        struct.pack(">I", 8),
        b"HTTP/1.1 500",
        struct.pack(">IQI", 1, 0, 256),
        struct.pack(">IQI", 1, 0, 0),
        struct.pack(">IQI", 6, 0, 2**32 - 1),
        struct.pack(">II", 4, 300),
        struct.pack(">II", 5, 5000),
    ],
)
def test_refused_at_once(data: bytes) -> None:
    with pytest.raises(StreamError, match=r"^stream byte \d+: "):
        list(FrameParser().feed(frames.READY + data))


def test_a_big_file_is_never_held() -> None:
    parser = FrameParser()
    list(parser.feed(frames.ltx_start("big")))
    piece = frames.chunks(bytes(1 << 20))
    for _ in range(64):
        got = sum(len(frame.data) for frame in parser.feed(piece[:-1]) if isinstance(frame, LTXData))
        got += sum(len(frame.data) for frame in parser.feed(piece[-1:]) if isinstance(frame, LTXData))
        assert got == 1 << 20
        assert len(parser._held) < 64
    assert not parser.at_boundary
    assert list(parser.feed(frames.CHUNKS_END)) == [LTXEnd()]


def test_names_that_are_not_utf8_survive() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert parse(frames.drop_db(name)) == [DropDB(name)]
