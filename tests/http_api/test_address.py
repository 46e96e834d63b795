"""Addresses as LiteFS writes them."""

from __future__ import annotations

import socket

import pytest

from litefs.errors import ConfigError
from litefs.http.address import ListenError, bind, is_loopback


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", ":0"])
def test_bind(address: str) -> None:
    with bind(address) as listener:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 1).close()


def test_bind_without_host_listens_on_ipv6_too() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6")
    with bind(":0") as listener:
        socket.create_connection(("::1", listener.getsockname()[1]), 1).close()


def test_port_in_use() -> None:
    with bind("127.0.0.1:0") as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ListenError, match=f"cannot listen on {address}: address already in use: .*http.addr"):
            bind(address)


def test_unknown_host() -> None:
    with pytest.raises(ConfigError, match="cannot resolve address"):
        bind("no.such.host.invalid:20202")


@pytest.mark.parametrize(
    ("address", "loopback"), [("127.0.0.1:0", True), ("localhost:0", True), (":0", False), ("0.0.0.0:0", False)]
)
def test_loopback(address: str, loopback: bool) -> None:
    with bind(address) as listener:
        assert is_loopback(listener) == loopback
