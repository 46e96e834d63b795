from __future__ import annotations

import io
import os

import lz4.frame
import pytest

from litefs.ltx.lz4block import FrameReader, FrameWriter, Lz4Error, compress


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1_000_000])
def test_whole_and_piecewise_frames_agree(size: int) -> None:
    data = os.urandom(size // 2) + bytes(size - size // 2)
    writer = FrameWriter()
    pieces = [writer.compress(data[at : at + 10_000]) for at in range(0, size, 10_000)]
    frame = b"".join([*pieces, writer.flush()])
    for candidate in (frame, compress(data)):
        assert candidate[:7].hex() == "04224d186440a7"
        assert lz4.frame.decompress(candidate) == data


def test_reads_no_more_than_asked_for() -> None:
    data = bytes(1_000_000)
    reader = FrameReader(io.BytesIO(compress(data)))
    assert len(reader.read(10)) == 10
    assert len(reader.read(100_000)) == 100_000
    assert len(reader.read(2_000_000)) == 899_990
    assert reader.read(1) == b""


def test_what_follows_the_frame_is_kept() -> None:
    frame = compress(b"page")
    reader = FrameReader(io.BytesIO(frame + b"trailer"))
    assert reader.read(4) == b"page"
    assert reader.rest() == (len(frame), b"trailer")


def test_frame_must_end() -> None:
    reader = FrameReader(io.BytesIO(compress(b"pages")))
    reader.read(4)
    with pytest.raises(Lz4Error, match="goes on"):
        reader.rest()


def test_reads_frames_with_other_parameters() -> None:
    data = os.urandom(100_000) + bytes(9_000_000)
    for linked in (True, False):
        frame = lz4.frame.compress(data, block_size=lz4.frame.BLOCKSIZE_MAX4MB, block_linked=linked, store_size=True)
        assert FrameReader(io.BytesIO(frame)).read(len(data) + 1) == data


@pytest.mark.parametrize("at", [4, 6, 8, 20, -1])
def test_damage_is_an_error(at: int) -> None:
    frame = bytearray(compress(b"0123456789" * 100))
    frame[at] ^= 0xFF
    with pytest.raises(Lz4Error):
        FrameReader(io.BytesIO(bytes(frame))).read(2000)


def test_cut_frame_is_an_error() -> None:
    frame = compress(b"0123456789" * 100)
    for length in range(len(frame)):
        with pytest.raises(Lz4Error):
            FrameReader(io.BytesIO(frame[:length])).read(2000)
