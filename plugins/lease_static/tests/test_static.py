"""The static lease: conformance, and the settings that make a primary or a replica."""

from __future__ import annotations

import litefs_lease_static as plugin
import pytest
import trio
from litefs_lease_static import StaticLeaser

from litefs.errors import ConfigError
from litefs.leases import FOREVER, LeaseHeld, PrimaryInfo
from litefs.plugins import load
from litefs.testing import LeaseConformance, lease_config, node_info


class TestConformance(LeaseConformance):
    exclusive = False
    stores_cluster_id = False

    async def leaser(self, name: str) -> StaticLeaser:
        return StaticLeaser(name, f"http://{name}:20202", candidate=True)


def test_primary() -> None:
    config = lease_config(plugin, {"type": "static", "hostname": "one", "advertise-url": "http://one:1"})

    async def main() -> None:
        leaser = plugin.make(config, node_info())
        assert await leaser.primary() is None
        lease = await leaser.acquire()
        assert lease.ttl == FOREVER
        assert await leaser.primary() == PrimaryInfo("one", "http://one:1")

    trio.run(main)


def test_replica_knows_its_primary_from_its_own_settings() -> None:
    section = {"type": "static", "hostname": "one", "advertise-url": "http://one:1", "candidate": False}
    config = lease_config(plugin, section)

    async def main() -> None:
        leaser = plugin.make(config, node_info())
        assert await leaser.primary() == PrimaryInfo("one", "http://one:1")
        with pytest.raises(LeaseHeld, match="held by one"):
            await leaser.acquire()

    trio.run(main)


def test_replica_needs_the_url_of_its_primary() -> None:
    with pytest.raises(ConfigError, match="advertise-url is required"):
        plugin.make(lease_config(plugin, {"type": "static", "candidate": False}), node_info())


def test_it_has_no_keys_of_its_own() -> None:
    assert lease_config(plugin, {"type": "static", "static": {}}).section == {}
    with pytest.raises(ConfigError, match=r"lease\.static\.x: unknown key"):
        lease_config(plugin, {"type": "static", "static": {"x": 1}})


def test_it_is_an_ordinary_plugin() -> None:
    (found,) = [found for found in load() if found.name == "lease_static"]
    assert found.distribution == "litefs-lease-static"
    assert load().hooks(found) == ("litefs_leasers",)
