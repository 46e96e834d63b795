from __future__ import annotations

import pytest

from litefs.ltx import filename, parse_filename


def test_name_shows_the_range() -> None:
    assert filename(1, 0x1F) == "0000000000000001-000000000000001f.ltx"
    assert parse_filename("0000000000000001-000000000000001f.ltx") == (1, 0x1F)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "0000000000000001-000000000000001f.ltx.tmp",
        "0000000000000001-000000000000001F.ltx",
        "0000000000000001-000000000000001f.ltx\n",
        "0000000000000001-00000000000001f.ltx",
        "a0000000000000001-000000000000001f.ltx",
    ],
)
def test_other_names_are_not_ltx_files(name: str) -> None:
    assert parse_filename(name) is None
