"""The position map of POST /stream."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litefs.errors import StreamError
from litefs.ltx import Pos
from litefs.replication import posmap

from . import golden

u64 = st.integers(0, 2**64 - 1)
names = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=40)
positions = st.dictionaries(names, st.builds(Pos, u64, u64), max_size=20).filter(
    lambda d: all(len(name.encode("utf-8", "replace")) <= 255 for name in d)
)


@golden.needs_golden
@pytest.mark.parametrize("name", golden.CASES)
def test_recorded_requests(name: str) -> None:
    request = golden.load(name).recorded["request"]
    body = bytes.fromhex(request["body_hex"])
    got = posmap.decode(body)
    if request["position_map"]:
        assert {name: str(pos) for name, pos in got.items()} == request["position_map"]
    assert posmap.encode(got) == body


@given(positions)
def test_round_trip(some: dict[str, Pos]) -> None:
    assert posmap.decode(posmap.encode(some)) == some


@given(positions, st.data())
def test_a_cut_map_is_refused(some: dict[str, Pos], data: st.DataObject) -> None:
    body = posmap.encode(some)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(StreamError, match="position map: EOF"):
        posmap.decode(body[:cut])


@given(st.binary(max_size=200))
def test_rubbish_is_a_stream_error(body: bytes) -> None:
    with suppress(StreamError):
        posmap.decode(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0\1",
        b"\0\0\0\1\0\0\0\2db\0\0",
        b"\xff\xff\xff\xff" + bytes(100),
        struct.pack(">II", 1, 0) + bytes(17),
        struct.pack(">II", 1, 2**31) + bytes(40),
        posmap.encode({}) + b"x",
        struct.pack(">I", 2) + (struct.pack(">I", 1) + b"a" + bytes(16)) * 2,
    ],
)
def test_refused(body: bytes) -> None:
    with pytest.raises(StreamError):
        posmap.decode(body)
