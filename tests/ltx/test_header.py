from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litefs.errors import LTXError
from litefs.ltx import CHECKSUM_FLAG, EMPTY, HEADER_SIZE, Header, Pos, Trailer

HEADER = Header(
    page_size=4096,
    commit=10,
    min_txid=5,
    max_txid=6,
    flags=1,
    timestamp=1_700_000_000_000,
    pre_apply=CHECKSUM_FLAG | 5,
    wal_offset=32,
    wal_size=4120,
    salt1=7,
    salt2=8,
    node_id=9,
)


def _u64(low: int = 0) -> st.SearchStrategy[int]:
    return st.integers(low, (1 << 64) - 1)


def test_header_bytes() -> None:
    data = HEADER.encode()
    assert len(data) == HEADER_SIZE
    assert data.hex() == (
        "4c545831 00000001 00001000 0000000a 0000000000000005 0000000000000006 0000018bcfe56800 8000000000000005"
        " 0000000000000020 0000000000001018 00000007 00000008 0000000000000009" + "00" * 20
    ).replace(" ", "")


@given(
    st.builds(
        Header,
        page_size=st.sampled_from([512 << n for n in range(8)]),
        commit=st.integers(0, (1 << 32) - 1),
        min_txid=st.just(2),
        max_txid=_u64(2),
        flags=st.integers(0, 1),
        timestamp=st.integers(-(1 << 63), (1 << 63) - 1),
        pre_apply=_u64(CHECKSUM_FLAG),
        wal_offset=st.integers(1, (1 << 63) - 1),
        wal_size=st.integers(1, (1 << 63) - 1),
        salt1=st.integers(0, (1 << 32) - 1),
        salt2=st.integers(0, (1 << 32) - 1),
        node_id=_u64(),
    )
)
def test_header_round_trip(header: Header) -> None:
    assert Header.decode(header.encode()) == header


def test_header_says_what_it_is() -> None:
    assert HEADER.compressed
    assert not HEADER.is_snapshot
    assert HEADER.pos_before == Pos(4, CHECKSUM_FLAG | 5)
    snapshot = replace(HEADER, min_txid=1, pre_apply=0, flags=0)
    assert snapshot.is_snapshot
    assert not snapshot.compressed
    assert snapshot.pos_before == Pos(0, 0)


BROKEN: list[tuple[dict[str, Any], int]] = [
    ({"flags": 2}, 4),
    ({"flags": 0x80000001}, 4),
    ({"page_size": 0}, 8),
    ({"page_size": 1}, 8),
    ({"page_size": 256}, 8),
    ({"page_size": 4095}, 8),
    ({"page_size": 131072}, 8),
    ({"commit": -1}, 12),
    ({"commit": 1 << 32}, 12),
    ({"min_txid": 0, "pre_apply": 0}, 16),
    ({"min_txid": 7}, 24),
    ({"max_txid": 1 << 64}, 24),
    ({"timestamp": 1 << 63}, 32),
    ({"pre_apply": 0}, 40),
    ({"pre_apply": CHECKSUM_FLAG - 1}, 40),
    ({"pre_apply": 1 << 64}, 40),
    ({"min_txid": 1}, 40),
    ({"wal_offset": 0}, 48),
    ({"wal_offset": -1}, 48),
    ({"wal_size": 0}, 48),
    ({"wal_size": -1}, 56),
    ({"wal_offset": 0, "wal_size": 0}, 64),
    ({"salt1": 1 << 32}, 64),
    ({"node_id": 1 << 64}, 72),
]


@pytest.mark.parametrize(("change", "offset"), BROKEN)
def test_header_rules(change: dict[str, Any], offset: int) -> None:
    with pytest.raises(LTXError, match=f"my.ltx: at byte {offset}: "):
        replace(HEADER, **change).validate("my.ltx")
    with pytest.raises(LTXError):
        replace(HEADER, **change).encode()


@pytest.mark.parametrize(
    ("offset", "data", "why"),
    [
        (0, b"LTX2", "not an LTX file"),
        (4, b"\0\0\0\x03", "unknown flags"),
        (8, b"\0\0\0\1", "page size 1 "),
        (16, bytes(8), "minimum TXID"),
        (24, bytes(8), "maximum TXID"),
        (40, bytes(8), "pre-apply"),
        (48, b"\xff" * 8, "WAL offset -1"),
        (99, b"\1", "reserved"),
    ],
)
def test_header_refuses_bytes(offset: int, data: bytes, why: str) -> None:
    encoded = bytearray(HEADER.encode())
    encoded[offset : offset + len(data)] = data
    where = 80 if offset == 99 else offset
    with pytest.raises(LTXError, match=re.escape(f"my.ltx: at byte {where}: ") + ".*" + why):
        Header.decode(bytes(encoded), "my.ltx")


def test_short_header() -> None:
    with pytest.raises(LTXError, match=r"my\.ltx: at byte 99: the file ends inside its header"):
        Header.decode(HEADER.encode()[:99], "my.ltx")


@given(st.binary(min_size=96, max_size=96))
def test_header_of_noise(data: bytes) -> None:
    with pytest.raises(LTXError, match="at byte"):
        Header.decode(b"LTX1" + data)


def test_trailer_round_trip() -> None:
    trailer = Trailer(EMPTY, CHECKSUM_FLAG | 9)
    assert trailer.encode() == bytes.fromhex("80000000000000008000000000000009")
    assert Trailer.decode(trailer.encode()) == trailer


def test_trailer_rules() -> None:
    with pytest.raises(LTXError, match="x: at byte 500: post-apply checksum 0000000000000001"):
        Trailer.decode(Trailer(1, EMPTY).encode(), "x", 500)
    with pytest.raises(LTXError, match="x: at byte 508: file checksum 0000000000000001"):
        Trailer.decode(Trailer(EMPTY, 1).encode(), "x", 500)
    with pytest.raises(LTXError, match="x: at byte 515: the file ends inside its trailer"):
        Trailer.decode(Trailer(EMPTY, EMPTY).encode()[:15], "x", 500)
