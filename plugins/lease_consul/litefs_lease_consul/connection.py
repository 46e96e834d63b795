"""The way to Consul: opened on first use, every request within a time limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import trio

from litefs.leases import LeaseUnavailable
from litefs_lease_consul.endpoint import Endpoint

if TYPE_CHECKING:
    from litefs_lease_consul.client import Agent

T = TypeVar("T")


class Connection:
    """Requests to one endpoint.

    Args:
        endpoint: where Consul is.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._opening = trio.Lock()
        self._agent: Agent | None = None

    async def call(self, request: Callable[[Agent], Awaitable[T]], limit: float) -> T:
        """What a request returns.

        Args:
            request: called with the agent.
            limit: seconds that it may take.

        Raises:
            LeaseUnavailable: Consul cannot be reached, does not answer in time, or refuses.
            LeaseExpired: it knows no such session.
        """
        agent = await self._open()
        with trio.move_on_after(limit):
            return await request(agent)
        raise LeaseUnavailable(f"Consul at {self._endpoint.url} does not answer", f"waited {limit:g} s")

    async def aclose(self) -> None:
        """Close the connections; a later call opens them again."""
        agent, self._agent = self._agent, None
        if agent is not None:
            await agent.http.aclose()

    async def _open(self) -> Agent:
        # httpx, python-consul2 and a TLS context take a quarter of a second: not before the mount is up, and never
        # in trio's thread.
        async with self._opening:
            if self._agent is None:
                self._agent = await trio.to_thread.run_sync(_make_agent, self._endpoint)
            return self._agent


def _make_agent(endpoint: Endpoint) -> Agent:
    from litefs_lease_consul.client import Agent

    return Agent(endpoint)
