from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litefs.sqlite.walsum import checksum, page_summer


def _by_definition(data: bytes, s0: int, s1: int, big_endian: bool) -> tuple[int, int]:
    words = struct.unpack(f"{'>' if big_endian else '<'}{len(data) // 4}I", data)
    for a, b in zip(words[::2], words[1::2], strict=True):
        s0 = (s0 + a + s1) & 0xFFFFFFFF
        s1 = (s1 + b + s0) & 0xFFFFFFFF
    return s0, s1


STATE = st.integers(0, 0xFFFFFFFF)


@given(st.integers(0, 200), st.integers(), STATE, STATE, st.booleans())
def test_any_multiple_of_eight_bytes(count: int, seed: int, s0: int, s1: int, big_endian: bool) -> None:
    data = random.Random(seed).randbytes(count * 8)
    assert checksum(data, s0, s1, big_endian) == _by_definition(data, s0, s1, big_endian)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("size", [24, 64, 72, 512, 4096, 65528, 65536, 65544, 131072, 200_000])
def test_sizes_around_the_pieces(size: int, big_endian: bool) -> None:
    data = random.Random(size).randbytes(size)
    expected = _by_definition(data, 7, 0xFFFFFFFF, big_endian)
    for buffer in (data, bytearray(data), memoryview(b"12345678" + data)[8:]):
        assert checksum(buffer, 7, 0xFFFFFFFF, big_endian) == expected


@pytest.mark.parametrize("big_endian", [False, True])
def test_extreme_words_wrap_around(big_endian: bool) -> None:
    data = b"\xff" * 65536
    assert checksum(data, 0xFFFFFFFF, 0xFFFFFFFF, big_endian) == _by_definition(
        data, 0xFFFFFFFF, 0xFFFFFFFF, big_endian
    )


def test_page_summer_is_the_checksum_of_a_page() -> None:
    data = random.Random(1).randbytes(1024)
    assert page_summer(1024, True)(data, 1, 2) == checksum(data, 1, 2, True)


@pytest.mark.parametrize("size", [1, 4, 7, 4097])
def test_other_lengths_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        checksum(bytes(size), 0, 0, False)
