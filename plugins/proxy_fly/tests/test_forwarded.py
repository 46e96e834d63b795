"""Headers that say where a request is from."""

from __future__ import annotations

from typing import Any

import litefs_proxy_fly as plugin
import pytest
import trio
from litefs_proxy_fly.forwarded import Forwarded, configured
from litefs_proxy_fly.heads import parse_request

from litefs.errors import ConfigError
from litefs.testing import proxy_config
from tests.support.proxy import echo, proxied

START = b"GET / HTTP/1.1\r\nHost: a.example\r\n"
LIES = (
    b"X-Forwarded-For: 6.6.6.6\r\nx-forwarded-proto: https\r\nX_Forwarded_Host: evil\r\nX-Forwarded-Port: 1\r\n"
    b"X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n"
)


def made(wanted: str, *trusted: str) -> Forwarded:
    section = {"target": ":1", "addr": ":1", "db": "db", "forwarded-headers": wanted, "trusted-proxies": list(trusted)}
    found = configured(proxy_config(plugin, section).keys)
    assert found
    return found


def rewritten(forwarded: Forwarded, address: str, more: bytes = b"", host: bytes = b"a.example") -> bytes:
    """What the application gets behind the first two lines."""
    request = parse_request(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n" + more + b"\r\n")
    forwarded.rewrite(request, forwarded.origin(address))
    assert request.head.endswith(b"\r\n\r\n")
    parse_request(request.head)
    return request.head.partition(b"\r\n")[2].partition(b"\r\n")[2][:-2]


def test_what_clients_say_of_themselves_is_removed() -> None:
    said = rewritten(made("x"), "192.0.2.1", b"A: b\r\n" + LIES + b"Accept: *\r\n")
    assert said == (
        b"A: b\r\nAccept: *\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a.example\r\n"
    )
    said = rewritten(made("standard", "10.0.0.0/8"), "192.0.2.1", LIES)
    assert said == b"Forwarded: for=192.0.2.1;host=a.example;proto=http\r\n"


def test_what_trusted_proxies_say_is_kept_and_added_to() -> None:
    more = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nx-forwarded-for:  10.9.9.9 \r\n"
    said = rewritten(made("x", "10.0.0.0/8"), "::ffff:10.1.1.1", more + b"X-Forwarded-Host: b\r\n")
    assert said == (
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nX-Forwarded-For: 192.0.2.1, 10.9.9.9, 10.1.1.1\r\n"
    )
    said = rewritten(made("standard", "2001:db8::/32"), "2001:db8::7", b"Forwarded: for=a;proto=https\r\n")
    assert said == b'Forwarded: for=a;proto=https, for="[2001:db8::7]";host=a.example;proto=http\r\n'


def test_a_trusted_proxy_is_not_trusted_with_the_kind_that_it_does_not_set() -> None:
    trusting = made("x", "10.0.0.1")
    assert b"6.6.6.6" not in rewritten(trusting, "10.0.0.1", b"Forwarded: for=6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n")
    said = rewritten(made("standard", "10.0.0.1"), "10.0.0.1", LIES)
    assert said == b"Forwarded: for=6.6.6.6, for=10.0.0.1;host=a.example;proto=http\r\n"


def test_both_kinds() -> None:
    said = rewritten(made("both"), "fe80::1%eth0", LIES, host=b'h"\\:80')
    assert b"X-Forwarded-For: fe80::1\r\n" in said
    assert b'Forwarded: for="[fe80::1]";host="h\\"\\\\:80";proto=http\r\n' in said
    assert b"6.6.6.6" not in said


@pytest.mark.parametrize(
    ("wanted", "trusted"), [("x", "10.0.0.1/8"), ("x", "lb"), ("none", "10.0.0.0/8"), ("maybe", "10.0.0.0/8")]
)
def test_refused(wanted: str, trusted: str) -> None:
    with pytest.raises(ConfigError, match=r"trusted-proxies|forwarded-headers"):
        made(wanted, trusted)


@pytest.mark.parametrize("trusted", [[], ["127.0.0.0/8"]])
def test_on_a_running_proxy(trusted: list[str]) -> None:
    async def main(**config: Any) -> bytes:
        async with proxied(echo, **config) as site:
            return await site.ask(START + b"Connection: close\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")

    said = trio.run(lambda: main(forwarded_headers="x", trusted_proxies=trusted))
    chain = b"192.0.2.1, 127.0.0.1" if trusted else b"127.0.0.1"
    assert b"X-Forwarded-For: " + chain + b"\r\n" in said
    if not trusted:
        said = trio.run(main)  # by default as LiteFS: it passes, and nothing is added
        assert said.endswith(START + b"X-Forwarded-For: 192.0.2.1\r\n\r\n")
