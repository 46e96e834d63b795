from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from litefs_lease_consul.connection import Connection
from litefs_lease_consul.endpoint import locate
from litefs_lease_consul.keys import Keys
from litefs_lease_consul.leaser import ConsulLeaser

from tests.support.consul import Consul, running_consul
from tests.support.relay import Relay

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    """One agent for all tests, which takes a TTL of a second. Each test has a key of its own."""
    with running_consul(tmp_path_factory.mktemp("consul")) as agent:
        yield agent


@pytest.fixture
def key() -> str:
    return f"test/{next(_numbers)}"


@pytest.fixture
def relay(consul: Consul) -> Iterator[Relay]:
    """A way to the agent that can be cut."""
    wire = Relay(consul.port)
    yield wire
    wire.close()


@pytest.fixture
def make(consul: Consul, key: str) -> Callable[..., ConsulLeaser]:
    """Makes leasers of the nodes of one cluster."""

    def make(name: str = "one", *, url: str = consul.url, ttl: float = 2.0, lock_delay: float = 0.2) -> ConsulLeaser:
        endpoint = locate(url, {})
        keys = Keys.join(endpoint.prefix, key)
        return ConsulLeaser(Connection(endpoint), keys, name, f"http://{name}:20202", ttl=ttl, lock_delay=lock_delay)

    return make
