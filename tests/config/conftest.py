"""Plugins for configuration tests: nothing that happens to be installed here matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from litefs.config import Config, loads
from litefs.extensions import BackupSpec, ConfigSection, ProxySpec
from litefs.hookspecs import hookimpl
from litefs.leases import LeaserSpec
from litefs.plugins import BUILTIN, Plugin, Plugins


class Sample:
    """One type of each kind, and a section of its own."""

    @hookimpl
    def litefs_leasers(self) -> list[LeaserSpec]:
        schema = {
            "type": "object",
            "additionalProperties": False,
            "required": ["key"],
            "properties": {
                "key": {"type": "string"},
                "ttl": {"$ref": "#/$defs/duration", "default": "10s"},
                "secret": {"type": "string", "writeOnly": True, "pattern": "^s"},
            },
        }
        return [LeaserSpec("static", _none), LeaserSpec("sample", _none, schema)]

    @hookimpl
    def litefs_backups(self) -> list[BackupSpec]:
        schema = {"type": "object", "properties": {"level": {"type": "integer", "default": 3}}}
        return [BackupSpec("shelf", _none, schema, implied=lambda section, env: "SHELF" in env)]

    @hookimpl
    def litefs_proxies(self) -> list[ProxySpec]:
        return [ProxySpec("fly", _none)]

    @hookimpl
    def litefs_config_sections(self) -> list[ConfigSection]:
        audit = {
            "type": "object",
            "additionalProperties": False,
            "properties": {"every": {"$ref": "#/$defs/duration", "default": "1m"}, "to": {"type": ["string", "null"]}},
        }
        return [
            ConfigSection("audit", audit),
            ConfigSection("http", {"properties": {"x-limit": {"type": "integer", "default": 7}}}),
        ]


def _none(config: object, node: object) -> Any:
    raise NotImplementedError


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """The built-in plugin and a sample of everything."""
    return Plugins([BUILTIN, Plugin("sample", Sample())])


@pytest.fixture
def make(plugins: Plugins) -> Callable[..., Config]:
    """`loads` with these plugins, the given environment, and a static lease unless the text has a lease."""

    def load(text: str = "", **environment: str) -> Config:
        if "lease:" not in text:
            text = f"lease: {{type: static}}\n{text}"
        return loads(text, plugins=plugins, environment=environment)

    return load
