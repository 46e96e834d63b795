"""The lease type "sample" for litefs."""

from __future__ import annotations

from collections.abc import Sequence

from litefs.config import LeaseConfig
from litefs.hookspecs import hookimpl
from litefs.leases import LeaserSpec, NodeInfo
from litefs_lease_sample.leaser import SampleLeaser
from litefs_lease_sample.register import Register

# The section lease.sample of litefs.yml. Defaults are filled in, durations arrive as seconds.
SCHEMA = {
    "description": "TODO: what this lease is.",
    "type": "object",
    "additionalProperties": False,
    "required": ["path"],
    "properties": {
        "path": {"description": "The SQLite file that nodes share.", "type": "string", "pattern": "^/"},
        "ttl": {
            "description": "How long the lease holds without renewal.",
            "$ref": "#/$defs/duration",
            "default": "10s",
        },
        "skew": {
            "description": "How far the clocks of two nodes may be apart.",
            "$ref": "#/$defs/duration",
            "default": "1s",
        },
    },
}


def make(config: LeaseConfig, node: NodeInfo) -> SampleLeaser:
    """The leaser for a configuration; opens nothing. Name and URL default to the node's own."""
    section = config.section
    return SampleLeaser(
        Register(section["path"]),
        config.hostname or node.hostname,
        config.advertise_url or node.url,
        ttl=section["ttl"],
        skew=section["skew"],
    )


@hookimpl
def litefs_leasers() -> Sequence[LeaserSpec]:
    return [LeaserSpec("sample", make, SCHEMA)]
