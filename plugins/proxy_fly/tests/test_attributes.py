"""Attributes of the position cookie."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import litefs_proxy_fly as plugin
import pytest
from litefs_proxy_fly import cookies
from litefs_proxy_fly.attributes import configured

from litefs.errors import ConfigError
from litefs.testing import proxy_config


def line(**keys: Any) -> str:
    section = {"target": ":1", "addr": ":1", "db": "db", **{key.replace("_", "-"): keys[key] for key in keys}}
    return cookies.header(255, configured(proxy_config(plugin, section).keys)).decode()


def expires(text: str) -> float:
    found = re.search("Expires=([^;]*)", text)
    assert found
    return parsedate_to_datetime(found[1]).timestamp() - time()


def test_the_default_is_what_litefs_sends() -> None:
    text = line()
    assert re.fullmatch(r"Set-Cookie: __txid=00000000000000ff; Path=/; Expires=[^;]* GMT; HttpOnly\r\n", text)
    assert 290 < expires(text) <= 300


def test_all_of_them() -> None:
    text = line(
        cookie_path="/app",
        cookie_domain="example.com",
        cookie_max_age="1h",
        cookie_secure=True,
        cookie_same_site="None",
    )
    assert text.startswith("Set-Cookie: __txid=00000000000000ff; Path=/app; Domain=example.com; Expires=")
    assert text.endswith("; Max-Age=3600; HttpOnly; Secure; SameSite=None\r\n")
    assert 3500 < expires(text) <= 3600
    assert "HttpOnly" not in line(cookie_http_only=False)


@pytest.mark.parametrize(
    "keys",
    [
        {"cookie_same_site": "None"},
        {"cookie_same_site": "maybe"},
        {"cookie_path": "/a; Secure"},
        {"cookie_path": "a"},
        {"cookie_domain": "a b"},
        {"cookie_max_age": "1ms"},
        {"cookie_max_age": "-1s"},
    ],
)
def test_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cookie-"):
        line(**keys)
