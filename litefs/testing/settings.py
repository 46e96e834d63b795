"""What a factory of a plugin is called with, without a litefs.yml around it."""

from __future__ import annotations

from typing import Any

import yaml

from litefs.config import LeaseConfig, loads
from litefs.leases import NodeInfo
from litefs.plugins import BUILTIN, Plugin, Plugins


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


def node_info(hostname: str = "node", http_port: int = 20202) -> NodeInfo:
    """A node to make plugins for."""
    return NodeInfo(hostname, http_port)
