from __future__ import annotations

import io
import random
import tracemalloc
from dataclasses import replace

import lz4.frame
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from litefs.errors import LTXError
from litefs.ltx import (
    CHECKSUM_FLAG,
    EMPTY,
    Decoder,
    Header,
    Trailer,
    database_checksum,
    encode,
    page_checksum,
    read_info,
    verify,
)
from litefs.ltx.checksum import crc64

HEADER = Header(512, 40, 2, 2, pre_apply=CHECKSUM_FLAG | 1)
PAGES = [(n, random.Random(n).randbytes(512)) for n in (1, 3, 20, 40)]
POST = CHECKSUM_FLAG | 2
RAW = encode(HEADER, PAGES, POST)
LZ4 = encode(replace(HEADER, flags=1), PAGES, POST)


class Trickle:
    """A file that never gives all it was asked for."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._step))


def _file(header: Header, block: bytes, post_apply: int = POST) -> bytes:
    """A file with a right file checksum around any page block."""
    head, end = header.encode(), post_apply.to_bytes(8, "big")
    checksum = CHECKSUM_FLAG | crc64(head + block + end)
    stored = lz4.frame.compress(block, store_size=False, content_checksum=True) if header.compressed else block
    return head + bytes(stored) + end + checksum.to_bytes(8, "big")


def _record(pgno: int, data: bytes = bytes(512)) -> bytes:
    return pgno.to_bytes(4, "big") + data


@pytest.mark.parametrize("data", [RAW, LZ4])
@pytest.mark.parametrize("step", [1, 7, 516, 100_000])
@pytest.mark.parametrize("batch_size", [1, 1000, 1 << 20])
def test_pages_come_back_however_they_are_read(data: bytes, step: int, batch_size: int) -> None:
    decoder = Decoder(Trickle(data, step), batch_size=batch_size)
    assert list(decoder) == PAGES
    assert decoder.trailer == Trailer.decode(data[-16:])


def test_batches_hold_about_what_was_asked_for() -> None:
    decoder = Decoder(io.BytesIO(RAW), batch_size=1100)
    assert [len(batch) for batch in decoder.batches()] == [2, 2]


def test_trailer_is_not_known_before_the_end() -> None:
    decoder = Decoder(io.BytesIO(RAW))
    with pytest.raises(ValueError, match="after all pages"):
        _ = decoder.trailer


@pytest.mark.parametrize("data", [RAW, LZ4])
def test_bytes_after_the_trailer_are_ignored(data: bytes) -> None:
    assert verify(io.BytesIO(data + bytes(5000))) == verify(io.BytesIO(data))


@pytest.mark.parametrize("data", [RAW, LZ4])
def test_a_cut_file_is_refused_wherever_it_was_cut(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(LTXError, match=r"cut\.ltx: at byte"):
            verify(io.BytesIO(data[:length]), "cut.ltx")


@pytest.mark.parametrize("flags", [0, 1])
@pytest.mark.parametrize(
    ("block", "why"),
    [
        (_record(2) + _record(1) + bytes(4), "at byte 616.*page 1 after page 2: not in ascending order"),
        (_record(2) + _record(2) + bytes(4), "at byte 616.*page 2 after page 2: not in ascending order"),
        (_record(41) + bytes(4), "at byte 100.*page 41 is beyond the database size of 40 pages"),
        (_record(2), "at byte 6"),
        (_record(2)[:300], "at byte "),
        (b"", "at byte "),
    ],
)
def test_bad_blocks_with_a_right_checksum(flags: int, block: bytes, why: str) -> None:
    with pytest.raises(LTXError, match="bad.ltx: " + why):
        verify(io.BytesIO(_file(replace(HEADER, flags=flags), block)), "bad.ltx")


@pytest.mark.parametrize("flags", [0, 1])
def test_lock_page_is_refused(flags: int) -> None:
    header = Header(65536, 20000, 2, 2, flags, pre_apply=EMPTY)
    data = _file(header, _record(16384, bytes(65536)) + _record(16385, bytes(65536)) + bytes(4))
    with pytest.raises(LTXError, match="page 16385 is SQLite's lock page"):
        verify(io.BytesIO(data))


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (_record(1) + bytes(4), "at byte 616: a snapshot of 2 pages ends before page 2"),
        (_record(2) + bytes(4), "at byte 100: page 2 after page 0: a snapshot must hold every page"),
        (_record(1) + _record(2) + bytes(4), "at byte 1136: post-apply checksum is 8000000000000002, the pages have"),
        (bytes(4), "ends before page 1"),
    ],
)
def test_bad_snapshots(block: bytes, why: str) -> None:
    with pytest.raises(LTXError, match=why):
        verify(io.BytesIO(_file(Header(512, 2, 1, 1), block)))


@pytest.mark.parametrize("header", [Header(512, 0, 1, 9), replace(HEADER, commit=0)])
def test_deletions(header: Header) -> None:
    verify(io.BytesIO(_file(header, bytes(4), EMPTY)))
    with pytest.raises(LTXError, match="post-apply checksum of a deletion"):
        verify(io.BytesIO(_file(header, bytes(4), POST)))
    with pytest.raises(LTXError, match="beyond the database size of 0 pages"):
        verify(io.BytesIO(_file(header, _record(1) + bytes(4), EMPTY)))


def test_file_checksum_is_compared() -> None:
    data = RAW[:-1] + bytes([RAW[-1] ^ 1])
    with pytest.raises(LTXError, match=f"x: at byte {len(RAW) - 8}: file checksum is"):
        verify(io.BytesIO(data), "x")


def test_lz4_frame_must_end_with_the_pages() -> None:
    header = replace(HEADER, flags=1)
    for extra in (b"\0", bytes(5000)):
        with pytest.raises(LTXError, match="the LZ4 frame goes on after the end of the pages"):
            verify(io.BytesIO(_file(header, _record(2) + bytes(4) + extra)))


def test_lz4_frame_is_required_by_the_flag() -> None:
    with pytest.raises(LTXError, match="at byte 100: the page block is not an LZ4 frame"):
        verify(io.BytesIO(replace(HEADER, flags=1).encode() + RAW[100:]))


def test_read_info_reads_the_ends_only() -> None:
    damaged = RAW[:200] + b"?" + RAW[201:]
    assert read_info(io.BytesIO(damaged)) == verify(io.BytesIO(RAW))


def test_read_info_refuses_what_is_no_file() -> None:
    for data in (b"", RAW[:99], RAW[:110], HEADER.encode() + bytes(16)):
        with pytest.raises(LTXError, match=r"my\.ltx: at byte"):
            read_info(io.BytesIO(data), "my.ltx")


def test_errors_of_the_file_pass_through() -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        Decoder(Broken())


@pytest.mark.slow
@pytest.mark.parametrize("page_size", [512, 65536])
def test_a_hostile_lz4_bomb_stays_in_bounded_memory(page_size: int) -> None:
    pages = (256 << 20) // page_size
    compressor = lz4.frame.LZ4FrameCompressor(block_linked=False, content_checksum=True)
    parts = [Header(page_size, 1 << 31, 2, 2, 1, pre_apply=EMPTY).encode(), compressor.begin()]
    for pgno in range(1, pages):
        parts.append(compressor.compress(_record(pgno, bytes(page_size))))
    parts.append(compressor.flush())
    bomb = b"".join(parts)
    del parts
    tracemalloc.start()
    with pytest.raises(LTXError, match="ends inside its pages"):
        verify(io.BytesIO(bomb))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


@st.composite
def _transactions(draw: st.DrawFn) -> tuple[Header, list[tuple[int, bytes]], int]:
    page_size = draw(st.sampled_from([512, 1024, 65536]))
    commit = draw(st.integers(1, 30))
    snapshot = draw(st.booleans())
    numbers = range(1, commit + 1) if snapshot else sorted(draw(st.sets(st.integers(1, commit))))
    seed = draw(st.integers(0, 1 << 32))
    pages = [(n, (b"%d %d" % (n, seed)).ljust(page_size, draw(st.sampled_from([b"\0", b"x"])))) for n in numbers]
    checksum = database_checksum(page_checksum(*page) for page in pages)
    flags, txid = draw(st.integers(0, 1)), 1 if snapshot else draw(st.integers(2, 1 << 63))
    header = Header(page_size, commit, txid, txid, flags, pre_apply=0 if snapshot else EMPTY)
    return header, pages, checksum


@given(_transactions(), st.integers(1, 200_000))
def test_any_transaction_comes_back(transaction: tuple[Header, list[tuple[int, bytes]], int], batch: int) -> None:
    header, pages, post_apply = transaction
    data = encode(header, pages, post_apply)
    decoder = Decoder(io.BytesIO(data), batch_size=batch)
    assert list(decoder) == pages
    assert (decoder.header, decoder.trailer.post_apply) == (header, post_apply)
    assert read_info(io.BytesIO(data)) == (decoder.header, decoder.trailer)


@settings(max_examples=500)
@given(
    st.sampled_from([RAW, LZ4]),
    st.lists(st.tuples(st.integers(0, len(LZ4) - 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
)
@example(LZ4, [(100, b"\x50\x2a\x4d\x18\xff\xff\xff\xff")])
def test_damage_is_refused_or_harmless(data: bytes, changes: list[tuple[int, bytes]]) -> None:
    damaged = bytearray(data)
    for at, replacement in changes:
        damaged[at : at + len(replacement)] = replacement
    try:
        decoder = Decoder(io.BytesIO(bytes(damaged)), name="bad.ltx")
        pages = list(decoder)
    except LTXError as exc:
        if not str(exc).startswith("bad.ltx: at byte "):
            raise
    else:
        # LZ4 can say the same in more than one way.
        assert pages == PAGES
        assert decoder.trailer == Trailer.decode(data[-16:])


@given(st.booleans(), st.binary(max_size=2000))
def test_noise_after_a_good_header_is_refused(compressed: bool, noise: bytes) -> None:
    header = replace(HEADER, flags=int(compressed))
    prefix = b"\x04\x22\x4d\x18" if compressed else b""
    with pytest.raises(LTXError):
        verify(io.BytesIO(header.encode() + prefix + noise))
