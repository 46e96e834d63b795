from __future__ import annotations

import io
from dataclasses import replace

import pytest

from litefs.errors import LTXError
from litefs.ltx import CHECKSUM_FLAG, EMPTY, Decoder, Encoder, Header, database_checksum, encode, page_checksum, verify

HEADER = Header(512, 10, 2, 2, pre_apply=CHECKSUM_FLAG | 1)
SNAPSHOT = Header(512, 3, 1, 7)
POST = CHECKSUM_FLAG | 2
PAGES = [(n, bytes([n]) * 512) for n in (1, 2, 3)]
PAGES_CHECKSUM = database_checksum(page_checksum(pgno, data) for pgno, data in PAGES)


def _lz4(header: Header) -> Header:
    return replace(header, flags=1)


@pytest.mark.parametrize("header", [HEADER, _lz4(HEADER), SNAPSHOT, _lz4(SNAPSHOT)])
def test_encode_and_encoder_agree(header: Header) -> None:
    post_apply = PAGES_CHECKSUM if header.is_snapshot else POST
    data = encode(header, PAGES, post_apply)
    output = io.BytesIO()
    encoder = Encoder(output, header)
    encoder.write_page(*PAGES[0])
    encoder.write_pages(PAGES[1:])
    trailer = encoder.finish(post_apply)
    assert verify(io.BytesIO(data)) == (header, trailer)
    assert verify(io.BytesIO(output.getvalue())) == (header, trailer)
    assert list(Decoder(io.BytesIO(output.getvalue()))) == PAGES


def test_encode_takes_any_buffer() -> None:
    views = [(pgno, memoryview(bytearray(data))) for pgno, data in PAGES]
    assert encode(HEADER, views, POST) == encode(HEADER, PAGES, POST)


def test_lz4_frame_has_the_parameters_of_litefs() -> None:
    assert encode(_lz4(HEADER), PAGES, POST)[100:107].hex() == "04224d186440a7"
    output = io.BytesIO()
    Encoder(output, _lz4(HEADER)).finish(POST)
    assert output.getvalue()[100:107].hex() == "04224d186440a7"


def test_file_checksum_does_not_depend_on_compression() -> None:
    # The header differs in a flag, hence the comparison of two compressed forms of one block.
    raw = Encoder(io.BytesIO(), _lz4(HEADER))
    raw.write_pages(PAGES)
    assert raw.finish(POST).encode() == encode(_lz4(HEADER), PAGES, POST)[-16:]


@pytest.mark.parametrize(
    ("pages", "why"),
    [
        ([(0, bytes(512))], "not in ascending order"),
        ([(2, bytes(512)), (1, bytes(512))], "page 1 after page 2: not in ascending order"),
        ([(11, bytes(512))], "page 11 is beyond the database size of 10 pages"),
        ([(1, bytes(511))], "page 1 has 511 bytes, not 512"),
        ([(1, b"")], "page 1 has 0 bytes"),
    ],
)
def test_pages_that_may_not_be_written(pages: list[tuple[int, bytes]], why: str) -> None:
    with pytest.raises(LTXError, match=f"transaction 0000000000000002: .*{why}"):
        encode(HEADER, pages, POST)
    encoder = Encoder(io.BytesIO(), HEADER)
    for page in pages[:-1]:
        encoder.write_page(*page)
    with pytest.raises(LTXError, match=why):
        encoder.write_page(*pages[-1])


def test_lock_page_is_refused() -> None:
    header = Header(65536, 16386, 2, 2, pre_apply=CHECKSUM_FLAG)
    with pytest.raises(LTXError, match="page 16385 is SQLite's lock page"):
        encode(header, [(16385, bytes(65536))], POST)


def test_raw_pages_leave_out_the_lock_page() -> None:
    header = Header(65536, 16387, 2, 2, pre_apply=CHECKSUM_FLAG)
    output = io.BytesIO()
    encoder = Encoder(output, header)
    encoder.write_raw_pages(16384, bytes(65536 * 4))
    encoder.finish(POST)
    assert [pgno for pgno, _ in Decoder(io.BytesIO(output.getvalue()))] == [16384, 16386, 16387]


def test_raw_pages_are_whole_pages() -> None:
    with pytest.raises(LTXError, match="513 bytes are not whole pages of 512 bytes"):
        Encoder(io.BytesIO(), HEADER).write_raw_pages(1, bytes(513))


def test_snapshot_checksum_is_computed() -> None:
    encoder = Encoder(io.BytesIO(), SNAPSHOT)
    encoder.write_raw_pages(1, b"".join(data for _, data in PAGES))
    assert encoder.finish().post_apply == PAGES_CHECKSUM


def test_snapshot_checksum_is_compared() -> None:
    encoder = Encoder(io.BytesIO(), SNAPSHOT)
    encoder.write_pages(PAGES)
    with pytest.raises(LTXError, match="the snapshot's pages have"):
        encoder.finish(POST)
    with pytest.raises(LTXError, match="the snapshot's pages have"):
        encode(SNAPSHOT, PAGES, POST)


def test_snapshot_must_be_complete() -> None:
    encoder = Encoder(io.BytesIO(), SNAPSHOT)
    encoder.write_pages(PAGES[:2])
    with pytest.raises(LTXError, match="a snapshot of 3 pages ends before page 3"):
        encoder.finish()
    with pytest.raises(LTXError, match="a snapshot of 3 pages ends before page 3"):
        encode(SNAPSHOT, PAGES[:2], POST)


def test_increment_needs_a_post_apply_checksum() -> None:
    with pytest.raises(LTXError, match="must be given"):
        Encoder(io.BytesIO(), HEADER).finish()
    with pytest.raises(LTXError, match="lacks its top bit"):
        Encoder(io.BytesIO(), HEADER).finish(2)
    with pytest.raises(LTXError, match="lacks its top bit"):
        encode(HEADER, [], 2)


@pytest.mark.parametrize("header", [replace(HEADER, commit=0), replace(SNAPSHOT, commit=0)])
def test_deletion(header: Header) -> None:
    assert verify(io.BytesIO(encode(header, [], EMPTY)))[1].post_apply == EMPTY
    with pytest.raises(LTXError, match="not 8000000000000000"):
        encode(header, [], POST)
    with pytest.raises(LTXError, match="beyond the database size of 0 pages"):
        encode(header, PAGES[:1], EMPTY)


def test_many_single_pages_are_written_in_bounded_pieces() -> None:
    pieces: list[int] = []

    class Sink:
        def write(self, data: bytes, /) -> None:
            pieces.append(len(data))

    encoder = Encoder(Sink(), Header(65536, 64, 2, 2, pre_apply=CHECKSUM_FLAG))
    for pgno in range(1, 65):
        encoder.write_page(pgno, bytes(65536))
    encoder.finish(POST)
    assert sum(pieces) == 100 + 64 * 65540 + 4 + 16
    assert max(pieces) < 2 << 20
