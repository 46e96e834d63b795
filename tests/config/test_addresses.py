"""HOST:PORT."""

from __future__ import annotations

import pytest

from litefs.config.addresses import split_address
from litefs.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (":20202", ("", 20202)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:80", ("::1", 80)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_good(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts


@pytest.mark.parametrize(
    "text", ["", "20202", "host", "host:", "host:x", ":65536", "::1:80", "http://host:80", ":-1", ":²"]
)
def test_bad(text: str) -> None:
    with pytest.raises(ConfigError, match="invalid address"):
        split_address(text)
