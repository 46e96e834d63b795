"""Where Consul is: the URL first, then the variables of Consul's own tools."""

from __future__ import annotations

from pathlib import Path

import litefs_lease_consul as plugin
import pytest
from litefs_lease_consul.endpoint import TLS, locate
from litefs_lease_consul.keys import Keys, decode, encode

from litefs.errors import ConfigError
from litefs.leases import PrimaryInfo
from litefs.testing import lease_config, node_info

PARTS = ("scheme", "host", "port", "prefix", "token")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8500", ("http", "127.0.0.1", 8500, "", "")),
        ("http://consul", ("http", "consul", 80, "", "")),
        ("http://consul:8500/", ("http", "consul", 8500, "", "")),
        ("https://:t0k3n@consul.example.com/app-xyz/", ("https", "consul.example.com", 443, "app-xyz", "t0k3n")),
        ("https://anybody:t%2F%40@h/a/b", ("https", "h", 443, "a/b", "t/@")),
        ("http://[::1]:8500/p%20q", ("http", "::1", 8500, "p q", "")),
    ],
)
def test_urls(url: str, expected: tuple[object, ...]) -> None:
    found = locate(url, {})
    assert tuple(getattr(found, part) for part in PARTS) == expected


def test_what_may_be_shown() -> None:
    found = locate("https://:t0k3n@[::1]/p", {"CONSUL_HTTP_AUTH": "me:pass"})
    assert found.url == "https://[::1]:443"
    assert "t0k3n" not in repr(found)
    assert "pass" not in repr(found)


@pytest.mark.parametrize("url", ["consul:8500", "127.0.0.1:8500", "ftp://:t0k3n@h", "http://:t0k3n@", "http://h:x/"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match=r"lease\.consul\.url is no address") as caught:
        locate(url, {})
    assert "t0k3n" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "http://127.0.0.1:8500"),
        ({"CONSUL_HTTP_ADDR": "consul:1"}, "http://consul:1"),
        ({"CONSUL_HTTP_ADDR": "consul:1", "CONSUL_HTTP_SSL": "true"}, "https://consul:1"),
        ({"CONSUL_HTTP_ADDR": "https://consul"}, "https://consul:443"),
    ],
)
def test_without_a_url_the_environment_says_where(environment: dict[str, str], expected: str) -> None:
    assert locate("", environment).url == expected
    assert locate("http://other:2", environment).url == "http://other:2"


def test_the_token_of_the_url_comes_first() -> None:
    environment = {"CONSUL_HTTP_TOKEN": "b", "CONSUL_HTTP_TOKEN_FILE": "/file"}
    first = locate("http://:a@h", environment)
    assert (first.token, first.token_file) == ("a", "")
    second = locate("http://h", environment)
    assert (second.token, second.token_file) == ("", "/file")
    assert locate("http://h", {"CONSUL_HTTP_TOKEN": "b"}).token == "b"


@pytest.mark.parametrize("url", ["http://:a%0Ab@h", "http://:a%20b@h", "http://:\u00e4@h", "http://:%00@h"])
def test_tokens_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigError, match="the ACL token for Consul holds characters"):
        locate(url, {})


def test_other_variables() -> None:
    environment = {
        "CONSUL_CACERT": "ca",
        "CONSUL_CAPATH": "cas",
        "CONSUL_CLIENT_CERT": "cert",
        "CONSUL_CLIENT_KEY": "key",
        "CONSUL_TLS_SERVER_NAME": "name",
        "CONSUL_HTTP_SSL_VERIFY": "0",
        "CONSUL_NAMESPACE": "ns",
        "CONSUL_HTTP_AUTH": "me:pass",
    }
    found = locate("https://h", environment)
    assert found.tls == TLS("ca", "cas", "cert", "key", "name", verify=False)
    assert (found.namespace, found.basic_auth) == ("ns", "me:pass")
    with pytest.raises(ConfigError, match="CONSUL_HTTP_SSL_VERIFY is neither"):
        locate("https://h", {"CONSUL_HTTP_SSL_VERIFY": "maybe"})


@pytest.mark.parametrize(
    ("prefix", "key", "expected"),
    [
        ("", "litefs/primary", Keys("litefs/primary")),
        ("", "/litefs/primary/", Keys("litefs/primary")),
        ("p", "k", Keys("p/k", "p/litefs")),
        ("/p//q/", "/a//b", Keys("p/q/a/b", "p/q/litefs")),
    ],
)
def test_keys(prefix: str, key: str, expected: Keys) -> None:
    found = Keys.join(prefix, key)
    assert found == expected
    assert found.cluster_id == f"{expected.leader}/clusterid"


@pytest.mark.parametrize("key", ["", "/"])
def test_a_key_is_needed(key: str) -> None:
    with pytest.raises(ConfigError, match=r"lease\.consul\.key is empty"):
        Keys.join("p", key)


def test_values() -> None:
    info = PrimaryInfo("n\u00f6de<1>", "http://h:1?a&b")
    value = encode(info)
    assert value == '{"hostname":"n\u00f6de\\u003c1\\u003e","advertise-url":"http://h:1?a\\u0026b"}'.encode()
    assert decode(value) == info
    assert decode(b"") is None
    assert decode(b'{"other": 1}') == PrimaryInfo("", "")


@pytest.mark.parametrize("value", [b"x", b"[]", b'{"hostname": 1}', b"\xff"])
def test_values_of_others(value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of any kind
        decode(value)


def section(**consul: str) -> dict[str, object]:
    return {"type": "consul", "consul": {"key": "k", **consul}}


def test_settings() -> None:
    leaser = plugin.make(lease_config(plugin, section()), node_info("h", 80))
    assert (leaser.type, leaser.hostname, leaser.advertise_url) == ("consul", "h", "http://h:80")
    own = {"hostname": "a", "advertise-url": "http://b"}
    leaser = plugin.make(lease_config(plugin, section(url="http://c") | own), node_info())
    assert (leaser.hostname, leaser.advertise_url) == ("a", "http://b")
    config = lease_config(plugin, section())
    assert dict(config.section) == {"key": "k", "url": "", "ttl": 10.0, "lock-delay": 1.0}


@pytest.mark.parametrize(
    ("consul", "message"),
    [
        ({"ttl": "25h"}, "lease.consul.ttl is out of range: Consul takes 10s to 24h"),
        ({"ttl": "0s"}, "lease.consul.ttl is out of range"),
        ({"lock-delay": "-1s"}, "lock-delay"),
        ({"key": ""}, "lease.consul.key is empty"),
        ({"url": "consul:8500"}, "lease.consul.url is no address"),
        ({"tll": "1s"}, 'did you mean "ttl"'),
    ],
)
def test_wrong_settings(consul: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plugin.make(lease_config(plugin, section(**consul)), node_info())


def test_a_key_is_required() -> None:
    with pytest.raises(ConfigError, match=r"lease\.consul\.key: is required"):
        lease_config(plugin, {"type": "consul", "consul": {"url": "http://h"}})


@pytest.mark.parametrize("ttl", ["5s", "10s", "1m"])
def test_what_consul_may_refuse_is_for_consul_to_refuse(ttl: str) -> None:
    plugin.make(lease_config(plugin, section(ttl=ttl)), node_info())


def test_nothing_is_opened_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(tmp_path / "none"))
    plugin.make(lease_config(plugin, section()), node_info())
