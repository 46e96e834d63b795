"""A lease for litefs in a file on a shared folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from litefs.config import LeaseConfig
from litefs.extensions import CommandSpec
from litefs.hookspecs import hookimpl
from litefs.leases import LeaserSpec, NodeInfo
from litefs_lease_file.leaser import FileLeaser
from litefs_lease_file.store import LeaseFile

if TYPE_CHECKING:
    from prometheus_client.registry import Collector


def make(config: LeaseConfig, node: NodeInfo) -> FileLeaser:
    """The leaser for a configuration; name and URL default to the node's own."""
    section = config.section
    return FileLeaser(
        LeaseFile(section["path"], skew=section["skew"]),
        config.hostname or node.hostname,
        config.advertise_url or node.url,
        ttl=section["ttl"],
    )


@hookimpl
def litefs_leasers() -> Sequence[LeaserSpec]:
    schema = json.loads((files(__name__) / "schema.json").read_text("utf-8"))
    return [LeaserSpec("file", make, schema)]


@hookimpl
def litefs_commands() -> Sequence[CommandSpec]:
    return [CommandSpec("lease-file", "litefs_lease_file.command:command", "show who holds a lease file")]


@hookimpl
def litefs_metrics() -> Sequence[Collector]:
    from litefs_lease_file.metrics import RENEWALS  # late: importing it at start would delay the mount

    return [RENEWALS]
