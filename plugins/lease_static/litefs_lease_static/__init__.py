"""Static lease: the configuration says which node is primary, for as long as it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

from litefs.config import LeaseConfig
from litefs.errors import ConfigError
from litefs.hookspecs import hookimpl
from litefs.leases import FOREVER, BaseLeaser, LeaseHeld, LeaserSpec, NodeInfo, PrimaryInfo


class StaticLease:
    """A hold that needs no renewal and nobody can take."""

    id = "static"
    ttl = FOREVER
    supports_handoff = False

    async def renew(self) -> None:
        """Does nothing: it does not run out."""

    async def release(self) -> None:
        """Does nothing: no other node could have it."""


class StaticLeaser(BaseLeaser):
    """Knows from the configuration whether this node is primary.

    Args:
        hostname: the primary's name, which on the primary is its own.
        advertise_url: the primary's URL.
        candidate: whether this node is the primary.
    """

    type = "static"

    def __init__(self, hostname: str, advertise_url: str, *, candidate: bool) -> None:
        super().__init__(hostname, advertise_url)
        self._candidate = candidate
        self._held = False

    async def primary(self) -> PrimaryInfo | None:
        """The configured primary; on a candidate itself, from when it took the lease."""
        return self.info if self._held or not self._candidate else None

    async def acquire(self) -> StaticLease:
        """The lease, on a candidate.  Raises LeaseHeld on any other node."""
        if not self._candidate:
            raise LeaseHeld(self.info)
        self._held = True
        return StaticLease()


def make(config: LeaseConfig, node: NodeInfo) -> StaticLeaser:
    """The leaser for a configuration.  Raises ConfigError on a replica that does not know its primary's URL."""
    if not config.candidate and not config.advertise_url:
        raise ConfigError("lease.advertise-url is required", "on a static replica it is the URL of the primary")
    return StaticLeaser(config.hostname, config.advertise_url, candidate=config.candidate)


@hookimpl
def litefs_leasers() -> Sequence[LeaserSpec]:
    schema = json.loads((files(__name__) / "schema.json").read_text("utf-8"))
    return [LeaserSpec("static", make, schema)]
