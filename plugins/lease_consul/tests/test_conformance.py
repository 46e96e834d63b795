"""The contract of leases, against a real Consul."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from litefs_lease_consul.leaser import ConsulLeaser

from litefs.testing import LeaseConformance
from tests.support.consul import Consul
from tests.support.relay import Relay

TTL = 1.0


class TestConformance(LeaseConformance):
    wakes_waiters = True
    # Consul ends a session after twice its TTL, and then keeps the key for the lock delay.
    slack = TTL + 1.0
    longest_ttl = TTL

    @pytest.fixture(autouse=True)
    def _backend(self, consul: Consul, key: str, make: Callable[..., ConsulLeaser], relay: Relay) -> None:
        self.consul = consul
        self.key = key
        self.make = make
        self.relay = relay

    async def leaser(self, name: str) -> ConsulLeaser:
        return self.make(name, url=self.relay.url, ttl=TTL)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with self.relay.cut():
            yield

    async def revoke(self) -> None:
        session = self.consul.session(self.key)
        assert session
        self.consul.destroy(session["ID"])


class TestDeletedKeys(TestConformance):
    """The same with another way to take a lease away, after which its session is still there."""

    async def revoke(self) -> None:
        self.consul.delete(self.key)
