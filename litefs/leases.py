"""What a lease backend has to provide: the contract between the kernel and ``litefs-lease-*`` plugins.

A *leaser* stands for the shared place where nodes agree who is primary; a *lease* is this node's hold on it.
`litefs.testing.LeaseConformance` checks an implementation against everything that is said here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from litefs.errors import LeaseError

if TYPE_CHECKING:
    from litefs.config.model import LeaseConfig

FOREVER = math.inf


@dataclass(frozen=True, slots=True)
class PrimaryInfo:
    """Who is primary.

    Args:
        hostname: the name that replicas show in ``.primary``.
        advertise_url: where its HTTP API is reached.
    """

    hostname: str
    advertise_url: str


class LeaseHeld(LeaseError):
    """Another node holds the lease; ``primary`` names it where the backend knows."""

    def __init__(self, primary: PrimaryInfo | None) -> None:
        super().__init__(
            f"lease is held by {primary.hostname or primary.advertise_url}" if primary else "lease is held"
        )
        self.primary = primary


class LeaseUnavailable(LeaseError):
    """The backend cannot answer now: it is unreachable, or it refuses for a reason that may pass.  Try again."""


class LeaseExpired(LeaseError):
    """The lease is over: it ran out, was taken over, or was released.  The node must stop writing at once."""


class HandoffNotSupported(LeaseError):
    """Leases of this type cannot be passed to another node."""

    def __init__(self, lease_type: str) -> None:
        super().__init__(f"{lease_type} lease does not support handoff")


class ClusterIDConflict(LeaseError):
    """The backend already holds another cluster id: this node belongs to a different cluster."""

    def __init__(self, existing: str) -> None:
        super().__init__(f"lease already initialized with cluster ID {existing}")
        self.existing = existing


class Lease(Protocol):
    """This node's hold on the lease, from `Leaser.acquire` until it expires or is released."""

    @property
    def id(self) -> str:
        """What `Leaser.acquire_existing` of another node needs to take this lease over."""

    @property
    def ttl(self) -> float:
        """Seconds for which the lease holds after the *start* of a successful `renew`; `FOREVER` if it needs none."""

    @property
    def supports_handoff(self) -> bool:
        """Whether another node can take it over with `Leaser.acquire_existing`."""

    async def renew(self) -> None:
        """Make the lease hold for another ``ttl``.

        Raises LeaseExpired when it is lost for good, LeaseUnavailable when that could not be found out.
        """

    async def release(self) -> None:
        """Give the lease up, so that another node can have it at once.

        Harmless when it is already over, whoever holds it now.  Raises LeaseUnavailable when the backend cannot be
        reached; then it runs out by itself.
        """


class Leaser(Protocol):
    """Access to the shared lease.  Used by one task at a time, except `wait_change`; every method may be cancelled."""

    @property
    def type(self) -> str:
        """The type as written in ``lease.type``."""

    @property
    def hostname(self) -> str:
        """This node's name, as it is announced with the lease."""

    @property
    def advertise_url(self) -> str:
        """This node's URL, as it is announced with the lease."""

    async def primary(self) -> PrimaryInfo | None:
        """Who holds the lease now, this node included; None when nobody does.  Raises LeaseUnavailable."""

    async def acquire(self) -> Lease:
        """Take the lease.  Raises LeaseHeld when somebody holds it, LeaseUnavailable when it cannot be had now."""

    async def acquire_existing(self, lease_id: str) -> Lease:
        """Take over a lease that its holder hands to this node: the same lease, now announcing this node.

        The former holder keeps using nothing of it.  Raises HandoffNotSupported, LeaseExpired when no such lease is
        held any more, LeaseUnavailable.
        """

    async def cluster_id(self) -> str | None:
        """The id of the cluster that uses this lease; None while there is none, or where it cannot be stored."""

    async def set_cluster_id(self, cluster_id: str) -> None:
        """Store the cluster id for good.  Raises ClusterIDConflict where there is another one, LeaseUnavailable."""

    async def wait_change(self) -> None:
        """Return when what `primary` said last may have changed, earlier than polling would find out.

        Raises nothing for a backend that is away; may sleep forever.  While this node holds the lease, a return means
        that it may be lost: `Lease.renew` says whether.
        """

    async def aclose(self) -> None:
        """Free connections.  Does not release the lease."""


class BaseLeaser:
    """Convenience for authors: the parts of `Leaser` that a simple backend does not have."""

    type: str

    def __init__(self, hostname: str, advertise_url: str) -> None:
        self.hostname = hostname
        self.advertise_url = advertise_url

    @property
    def info(self) -> PrimaryInfo:
        """This node, as it is announced."""
        return PrimaryInfo(self.hostname, self.advertise_url)

    async def acquire_existing(self, lease_id: str) -> Lease:
        """Refuses."""
        raise HandoffNotSupported(self.type)

    async def cluster_id(self) -> str | None:
        """None: not stored."""
        return None

    async def set_cluster_id(self, cluster_id: str) -> None:
        """Forgets it."""

    async def wait_change(self) -> None:
        """Sleeps forever: the kernel polls."""
        import trio  # late: `litefs config check` loads leases, but never runs one

        await trio.sleep_forever()

    async def aclose(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a plugin's factory may know about the node it is made for.

    Args:
        hostname: the system's host name.
        http_port: the port of the node's HTTP API.
        secure: whether that API is served with TLS.
    """

    hostname: str
    http_port: int
    secure: bool = False

    @property
    def url(self) -> str:
        """The URL to advertise where the configuration has none."""
        return f"{'https' if self.secure else 'http'}://{self.hostname}:{self.http_port}"


@dataclass(frozen=True, slots=True)
class LeaserSpec:
    """A lease type, as a plugin registers it.

    Args:
        type: the word in ``lease.type``; also the name of its section, ``lease.TYPE``.
        factory: makes the leaser, opening nothing yet; raises ConfigError for what the schema could not check.
            ``config.section`` is the content of ``lease.TYPE`` with defaults filled in and durations in seconds.
        schema: JSON Schema (2020-12) of that section; by default it has no keys.
    """

    type: str
    factory: Callable[[LeaseConfig, NodeInfo], Leaser]
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "additionalProperties": False})
