"""LiteFS's HTTP proxy: writes go to the primary, and clients read what they have written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

from litefs.config import ProxyConfig
from litefs.errors import BadName, ConfigError
from litefs.extensions import ProxySpec, Service
from litefs.hookspecs import hookimpl
from litefs.leases import NodeInfo


def make(config: ProxyConfig, node: NodeInfo) -> Service:
    """The proxy for a configuration.  Raises ConfigError for a target or a database that cannot be."""
    from litefs.store.names import check_name  # late: every command loads this module
    from litefs_proxy_fly.service import FlyProxy
    from litefs_proxy_fly.target import parse_target

    try:
        check_name(config.db)
    except BadName as error:
        raise ConfigError(f"proxy.db: {error.message}", error.hint) from error
    return FlyProxy(config, parse_target(config.target))


@hookimpl
def litefs_proxies() -> Sequence[ProxySpec]:
    schema = json.loads((files(__name__) / "schema.json").read_text("utf-8"))
    return [ProxySpec("fly", make, schema)]
