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


class DeletedKeys(TestConformance):
    """Another way to take a lease away, after which its session is still there."""

    __test__ = False

    async def revoke(self) -> None:
        self.consul.delete(self.key)


@pytest.mark.parametrize("check", ["taken_away", "handoff_of_a_lease_that_was_taken_away"])
def test_deleted_keys(check: str, consul: Consul, key: str, make: Callable[..., ConsulLeaser], relay: Relay) -> None:
    suite = DeletedKeys()
    suite.consul, suite.key, suite.make, suite.relay = consul, key, make, relay
    suite.run_check(getattr(suite, f"check_{check}"))
