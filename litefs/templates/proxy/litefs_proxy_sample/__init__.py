"""The proxy type "sample" for litefs."""

from __future__ import annotations

from collections.abc import Sequence

from litefs.config import ProxyConfig
from litefs.config.addresses import split_address
from litefs.extensions import ProxySpec, Service
from litefs.hookspecs import hookimpl
from litefs.leases import NodeInfo

# The section proxy.sample of litefs.yml, beside the keys that every proxy has. Defaults are filled in.
SCHEMA = {
    "description": "TODO: how this proxy differs.",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "retry-after": {
            "description": "When clients are to try again while there is no primary.",
            "$ref": "#/$defs/duration",
            "default": "1s",
        },
    },
}


def make(config: ProxyConfig, node: NodeInfo) -> Service:
    """The proxy for a configuration; opens nothing."""
    from litefs_proxy_sample.service import SampleProxy  # late: every command of litefs loads this module

    host, port = split_address(config.target)
    return SampleProxy(config.addr, host or "127.0.0.1", port, retry_after=config.section["retry-after"])


@hookimpl
def litefs_proxies() -> Sequence[ProxySpec]:
    return [ProxySpec("sample", make, SCHEMA)]
