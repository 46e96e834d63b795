from __future__ import annotations

import pytest

from litefs.errors import LTXError
from litefs.ltx import Pos, format_checksum, format_txid, parse_checksum, parse_txid


def test_position_has_33_characters() -> None:
    text = str(Pos(0x1F, 0xBF33E8D581DB9EDC))
    assert text == "000000000000001f/bf33e8d581db9edc"
    assert len(text) == 33


def test_position_parses_its_own_text() -> None:
    pos = Pos((1 << 64) - 1, 1 << 63)
    assert Pos.parse(str(pos)) == pos


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "000000000000001f",
        "000000000000001f/",
        "000000000000001F/bf33e8d581db9edc",
        "00000000000001f/bf33e8d581db9edc",
        "000000000000001f/bf33e8d581db9edc\n",
        "000000000000001f/bf33e8d581db9edc/",
        "0x0000000000001f/bf33e8d581db9edc",
        "+00000000000001f/bf33e8d581db9edc",
        "\u0660" * 16 + "/" + "\u0660" * 16,
    ],
)
def test_position_refuses_other_text(text: str) -> None:
    with pytest.raises(LTXError, match="expected"):
        Pos.parse(text)


def test_numbers_are_16_lowercase_hex_digits() -> None:
    assert format_txid(255) == format_checksum(255) == "00000000000000ff"
    assert parse_txid("00000000000000ff") == parse_checksum("00000000000000ff") == 255
    with pytest.raises(LTXError, match="not a transaction id"):
        parse_txid("ff")
    with pytest.raises(LTXError, match="not a checksum"):
        parse_checksum("00000000000000FF")
