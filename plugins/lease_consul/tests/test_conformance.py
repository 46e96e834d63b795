"""The contract of leases, against a real Consul."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from litefs_lease_consul.leaser import ConsulLeaser

from litefs.testing import LeaseConformance
from tests.support.relay import Relay

TTL = 1.0


class TestConformance(LeaseConformance):
    # Consul ends a session after twice its TTL, and then keeps the key for the lock delay.
    slack = TTL + 1.0
    longest_ttl = TTL

    @pytest.fixture(autouse=True)
    def _backend(self, make: Callable[..., ConsulLeaser], relay: Relay) -> None:
        self.make = make
        self.relay = relay

    async def leaser(self, name: str) -> ConsulLeaser:
        return self.make(name, url=self.relay.url, ttl=TTL)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with self.relay.cut():
            yield
