"""The schema of the kernel's sections: every key of LiteFS with its default, each described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from litefs.builtin import kernel_schema
from litefs.config.merged import merged_schema
from litefs.config.schema import Schema
from litefs.plugins import Plugins

LITEFS_DEFAULTS: dict[str, Any] = {
    "exit-on-error": True,
    "skip-sync": False,
    "strict-verify": False,
    "exec": [],
    "data.dir": "/var/lib/litefs",
    "data.compress": True,
    "data.retention": "10m",
    "data.retention-monitor-interval": "1m",
    "fuse.dir": "/litefs",
    "fuse.allow-other": False,
    "fuse.unjournaled-writes": "refuse",
    "fuse.debug": False,
    "http.addr": ":20202",
    "http.snapshot-timeout": "0s",
    "proxy.addr": "",
    "proxy.target": "",
    "proxy.db": "",
    "proxy.max-lag": "10s",
    "proxy.debug": False,
    "proxy.passthrough": [],
    "proxy.always-forward": [],
    "proxy.primary-redirect-timeout": "5s",
    "proxy.read-timeout": "0s",
    "proxy.write-timeout": "0s",
    "proxy.read-header-timeout": "10s",
    "proxy.idle-timeout": "30s",
    "lease.type": None,
    "lease.hostname": "",
    "lease.advertise-url": "",
    "lease.candidate": True,
    "lease.promote": False,
    "lease.reconnect-delay": "1s",
    "lease.demote-delay": "10s",
    "lease.databases": [],
    "backup.type": "",
    "backup.path": "",
    "backup.url": "",
    "backup.cluster": "",
    "backup.auth-token": "",
    "backup.auth-token-file": "",
    "backup.on-mismatch": "restore",
    "log.format": "text",
    "log.timestamp": False,
    "log.debug": False,
    "tracing.enabled": True,
    "tracing.path": "",
    "tracing.max-size": 64,
    "tracing.max-count": 8,
    "tracing.compress": True,
}


def leaves(schema: Schema) -> Iterator[tuple[str, Any]]:
    for name, sub in schema.properties(schema.root).items():
        inner = schema.properties(sub) if schema.types(sub) == {"object"} else {}
        yield from ((f"{name}.{key}", leaf) for key, leaf in inner.items()) if inner else [(name, sub)]


@pytest.mark.parametrize(("key", "default"), LITEFS_DEFAULTS.items())
def test_every_key_of_litefs(key: str, default: Any) -> None:
    schema = Schema(kernel_schema())
    assert schema.keyword(dict(leaves(schema))[key], "default") == default


def test_every_key_has_description_type_and_a_valid_default() -> None:
    schema = Schema(kernel_schema())
    for key, leaf in leaves(schema):
        assert leaf["description"].endswith("."), key
        assert schema.types(leaf), key
        default = leaf.get("default")
        if key != "lease.type":
            assert not list(Draft202012Validator({**leaf, "$defs": schema.root["$defs"]}).iter_errors(default)), key


def test_schemas_are_schemas(plugins: Plugins) -> None:
    Draft202012Validator.check_schema(kernel_schema())
    Draft202012Validator.check_schema(merged_schema(plugins))


def test_merged_schema_names_the_installed_types(plugins: Plugins) -> None:
    properties = merged_schema(plugins)["properties"]
    assert properties["lease"]["properties"]["type"]["enum"] == ["sample", "static"]
    assert properties["backup"]["properties"]["type"]["enum"] == ["", "shelf"]
    assert properties["lease"]["properties"]["sample"]["properties"]["ttl"]["default"] == "10s"
    assert properties["audit"]["properties"].keys() == {"every", "to"}


def test_merging_leaves_the_parts_alone(plugins: Plugins) -> None:
    assert merged_schema(plugins) == merged_schema(plugins)
