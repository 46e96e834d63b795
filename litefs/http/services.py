"""What the HTTP API needs from the rest of the node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from litefs.store import Store


class Primary(Protocol):
    """Address of a remote primary."""

    @property
    def hostname(self) -> str: ...


class Role(Protocol):
    """The node's part in the cluster, as far as the API shows it (`litefs.cluster.role.Role`)."""

    @property
    def is_primary(self) -> bool: ...
    @property
    def candidate(self) -> bool: ...
    @property
    def primary(self) -> Primary | None: ...
    @property
    def primary_hostname(self) -> str | None: ...
    def lag_ms(self) -> int | None: ...


class Stream(Protocol):
    """A replication stream: the pieces of its response body."""

    def __aiter__(self) -> Stream: ...
    async def __anext__(self) -> bytes: ...
    async def aclose(self) -> None: ...


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

    async def stream(self, request_body: bytes, names: Collection[str] | None, peer_id: int) -> Stream:
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


@dataclass(slots=True)
class Services:
    """The node, as the API sees it.

    Attributes:
        not_ready: the reason why the node cannot serve applications yet; empty once it can.
        collectors: metrics of plugins.
        token: what requests must carry that read data or change state; empty where nothing is asked for.
        lags: for each database that a replica has applied a transaction of, the seconds from commit to apply.
        closing: set when the node stops; ends the event streams, which nobody else would end.
    """

    store: Store
    role: Role
    streams: Streams
    leadership: Leadership
    not_ready: Callable[[], str]
    collectors: Iterable[Collector] = ()
    token: str = field(default="", repr=False)
    lags: Mapping[str, float] = field(default_factory=dict)
    closing: trio.Event = field(default_factory=trio.Event)
