"""What the HTTP API needs from the rest of the node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

from litefs.http.sessions import Sessions

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from litefs.ltx import Header, Pos, Trailer
    from litefs.replication.members import Member
    from litefs.store import Store
    from litefs.store.halt import Halt


class Primary(Protocol):
    """Address of a remote primary."""

    @property
    def hostname(self) -> str:
        """Its name."""


class Role(Protocol):
    """The node's part in the cluster, as far as the API shows it (`litefs.cluster.role.Role`)."""

    @property
    def is_primary(self) -> bool:
        """Whether this node is the primary."""

    @property
    def candidate(self) -> bool:
        """Whether it may become the primary."""

    @property
    def primary(self) -> Primary | None:
        """Another node that is the primary; None when this one is, or none is known."""

    @property
    def primary_hostname(self) -> str | None:
        """Name of the primary, whoever that is."""

    def lag_ms(self) -> int | None:
        """Milliseconds that this node is behind; None when it is not known."""


class Stream(Protocol):
    """A replication stream: the pieces of its response body."""

    def __aiter__(self) -> Stream: ...
    async def __anext__(self) -> bytes: ...
    async def aclose(self) -> None:
        """Let go of what it holds."""


class Streams(Protocol):
    """The replication server (`litefs.replication.server.StreamServer`)."""

    def __len__(self) -> int:
        """Streams that are open."""
        ...

    @property
    def peers(self) -> Mapping[int, object]:
        """The open stream of each node id."""
        ...

    @property
    def frames_sent(self) -> Mapping[tuple[str, str], int]:
        """Number of frames by database and type."""
        ...

    async def stream(
        self,
        request_body: bytes,
        names: Collection[str] | None,
        peer_id: int,
        member: Member | None = None,
        *,
        tell_term: bool = False,
    ) -> Stream:
        """Start a stream. Raises StreamError for a bad position map, ReadOnly where this is not the primary."""
        ...


class Leadership(Protocol):
    """Changes of the primary on request (`litefs.cluster`)."""

    async def promote(self) -> None:
        """Ask the primary to hand over to this node; returns when it agreed. Raises LitefsError."""
        ...

    async def handoff(self, node_id: int) -> None:
        """Hand the primary role over to a connected node. Raises LitefsError."""
        ...

    async def demote(self, node_id: int | None = None) -> None:
        """Give the primary role up, to a connected node or to whoever takes it. Raises LitefsError."""
        ...

    def look(self) -> None:
        """Another node says that the lease is free."""
        ...


class Status(Protocol):
    """What the node says of itself (`litefs.cluster.status.Status`)."""

    async def __call__(self, *, databases: bool = True) -> dict[str, object]: ...


class Halts(Protocol):
    """Databases that other nodes write (`litefs.cluster.halt`)."""

    async def acquire(self, name: str, lock_id: int, node_id: int, *, prolong: bool) -> tuple[Halt, float]:
        """Halt a database; the halt, and the seconds until it ends. Raises LitefsError."""
        ...

    async def release(self, name: str, lock_id: int) -> None:
        """End a halt. Raises DatabaseNotFound."""
        ...

    def holder(self, name: str, lock_id: int, node_id: int) -> Halt:
        """The halt that a node has. Raises HaltError, ReadOnly."""
        ...

    async def write(
        self, name: str, lock_id: int, node_id: int, path: Path, header: Header, trailer: Trailer
    ) -> Pos:  # fmt: skip
        """Commit a transaction of the node that holds the halt. Raises LitefsError, OSError."""
        ...


@dataclass(slots=True)
class Services:
    """The node, as the API sees it.

    Attributes:
        not_ready: the reason why the node cannot serve applications yet; empty once it can.
        collectors: metrics of plugins.
        token: what requests must carry that read data or change state; empty where nothing is asked for.
        exempt: paths that need no token.
        sessions: browsers that are logged in to the status page.
        names: host names that this node goes by.
        secure: whether the API is served with TLS.
        lags: for each database that a replica has applied a transaction of, the seconds from commit to apply.
        closing: set when the node stops; ends the event streams, which nobody else would end.
    """

    store: Store
    role: Role
    streams: Streams
    leadership: Leadership
    status: Status
    halts: Halts
    not_ready: Callable[[], str]
    collectors: Iterable[Collector] = ()
    token: str = field(default="", repr=False)
    exempt: Collection[str] = ("/info", "/livez", "/readyz", "/metrics")
    sessions: Sessions = field(default_factory=lambda: Sessions("litefs", secure=False))
    names: Collection[str] = ()
    secure: bool = False
    lags: Mapping[str, float] = field(default_factory=dict)
    closing: trio.Event = field(default_factory=trio.Event)
