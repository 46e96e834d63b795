"""What a factory of a plugin is called with, without a litefs.yml around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from litefs.config import BackupConfig, Config, ExecCommand, LeaseConfig, ProxyConfig, loads
from litefs.hookspecs import hookimpl
from litefs.leases import Leaser, LeaserSpec, NodeInfo
from litefs.plugins import BUILTIN, Plugin, Plugins


class _AnyLease:
    """A litefs.yml needs a lease, whatever it is about."""

    @hookimpl
    def litefs_leasers(self) -> list[LeaserSpec]:
        return [LeaserSpec("any", _no_leaser)]


def _no_leaser(config: LeaseConfig, node: NodeInfo) -> Leaser:
    raise NotImplementedError


def lease_config(plugin: object, lease: dict[str, Any]) -> LeaseConfig:
    """The `lease` section as the plugin's factory gets it: checked by its schema, defaults filled in.

    Args:
        plugin: the module or object with the hooks.
        lease: the section as in litefs.yml, ``type`` included.

    Raises ConfigError for what its schema refuses.
    """
    plugins = Plugins([BUILTIN, Plugin("plugin under test", plugin)])
    text = yaml.safe_dump({"lease": lease})
    return loads(text, False, plugins=plugins, environment={}).lease


def backup_config(plugin: object, backup: dict[str, Any]) -> BackupConfig:
    """The `backup` section as the plugin's factory gets it; arguments and errors as for `lease_config`."""
    return whole_config(plugin, {"backup": backup}).backup


def proxy_config(plugin: object, proxy: dict[str, Any]) -> ProxyConfig:
    """The `proxy` section as the plugin's factory gets it; arguments and errors as for `lease_config`."""
    return whole_config(plugin, {"proxy": proxy}).proxy


def exec_commands(plugin: object, entries: Sequence[dict[str, Any]]) -> tuple[ExecCommand, ...]:
    """The `exec` section with the plugin's policies; arguments and errors as for `lease_config`."""
    return whole_config(plugin, {"exec": list(entries)}).exec


def whole_config(plugin: object, sections: dict[str, Any]) -> Config:
    """A litefs.yml with these sections, and some lease; errors as for `lease_config`."""
    plugins = Plugins([BUILTIN, Plugin("a lease", _AnyLease()), Plugin("plugin under test", plugin)])
    text = yaml.safe_dump({"lease": {"type": "any"}, **sections})
    return loads(text, False, plugins=plugins, environment={})


def node_info(hostname: str = "node", http_port: int = 20202) -> NodeInfo:
    """A node to make plugins for."""
    return NodeInfo(hostname, http_port)
