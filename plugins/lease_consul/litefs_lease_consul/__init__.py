"""Consul lease: nodes, those of LiteFS among them, agree through a key in Consul who is primary."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from litefs.config import LeaseConfig
from litefs.errors import ConfigError
from litefs.hookspecs import hookimpl
from litefs.leases import LeaserSpec, NodeInfo

if TYPE_CHECKING:
    from litefs_lease_consul.leaser import ConsulLeaser

LONGEST_TTL = 24 * 3600.0


def make(config: LeaseConfig, node: NodeInfo) -> ConsulLeaser:
    """The leaser for a configuration; name and URL default to the node's own.  Raises ConfigError."""
    # Late: this module is loaded by whoever reads litefs.yml.
    from litefs_lease_consul.connection import Connection
    from litefs_lease_consul.endpoint import locate
    from litefs_lease_consul.keys import Keys
    from litefs_lease_consul.leaser import ConsulLeaser

    section = config.section
    ttl, lock_delay = section["ttl"], section["lock-delay"]
    # The lower limit of the TTL is for Consul to say: its servers can be configured to take less than 10 s.
    if not 0 < ttl <= LONGEST_TTL:
        raise ConfigError("lease.consul.ttl is out of range", "Consul takes 10s to 24h")
    if lock_delay < 0:
        raise ConfigError("lease.consul.lock-delay is negative", "Consul takes 0s to 60s")
    endpoint = locate(section["url"], os.environ)
    return ConsulLeaser(
        Connection(endpoint),
        Keys.join(endpoint.prefix, section["key"]),
        config.hostname or node.hostname,
        config.advertise_url or node.url,
        ttl=ttl,
        lock_delay=lock_delay,
    )


@hookimpl
def litefs_leasers() -> Sequence[LeaserSpec]:
    schema = json.loads((files(__name__) / "schema.json").read_text("utf-8"))
    return [LeaserSpec("consul", make, schema)]
