"""LiteFS's HTTP proxy: writes go to the primary, and clients read what they have written."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from litefs.config import Config, ProxyConfig
from litefs.errors import BadName, ConfigError
from litefs.extensions import ConfigSection, ProxySpec, Service, ServiceSpec
from litefs.hookspecs import hookimpl
from litefs.leases import NodeInfo

if TYPE_CHECKING:
    from prometheus_client.registry import Collector


def make(config: ProxyConfig, node: NodeInfo) -> Service:
    """The proxy for a configuration.  Raises ConfigError for a target or a database that cannot be."""
    from litefs.store.names import check_name  # late: every command loads this module
    from litefs_proxy_fly.positions import check
    from litefs_proxy_fly.service import FlyProxy
    from litefs_proxy_fly.target import parse_target

    try:
        for name in config.databases:
            check_name(name)
    except BadName as error:
        raise ConfigError(f"proxy.db: {error.message}", error.hint) from error
    check(config.databases)
    return FlyProxy(config, parse_target(config.target))


def role_metadata(config: Config, node: NodeInfo) -> Service | None:
    """What tells Fly the role of this machine; None elsewhere."""
    if not os.environ.get("FLY_APP_NAME"):
        return None
    from litefs_proxy_fly.metadata import on_fly

    return on_fly(os.environ)


@hookimpl
def litefs_config_sections() -> Sequence[ConfigSection]:
    schema = json.loads((files(__name__) / "proxy.json").read_text("utf-8"))
    return [ConfigSection("proxy", schema)]


@hookimpl
def litefs_metrics() -> Sequence[Collector]:
    from litefs_proxy_fly.outcomes import OUTCOMES

    return [OUTCOMES]  # what has a collect() is one; importing the base class would delay the mount


@hookimpl
def litefs_services() -> Sequence[ServiceSpec]:
    return [ServiceSpec("fly role", role_metadata)]


@hookimpl
def litefs_proxies() -> Sequence[ProxySpec]:
    schema = json.loads((files(__name__) / "schema.json").read_text("utf-8"))
    return [ProxySpec("fly", make, schema)]
