"""What real LiteFS writes into Consul, next to what this plugin writes. Where LITEFS_PEER names its program."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml
from litefs_lease_consul.leaser import ConsulLeaser

from litefs.leases import LeaseHeld, PrimaryInfo
from litefs.mount.kernel import mounted_type, unmount
from tests.support.consul import Consul
from tests.support.nodes import free_port
from tests.support.waiting import wait_for

PEER = os.environ.get("LITEFS_PEER", "")

OWN = {"ID", "CreateIndex", "ModifyIndex", "LockIndex", "Session"}


def written(found: dict[str, Any] | None) -> dict[str, Any]:
    """An entry or session without what Consul itself adds."""
    assert found
    return {name: value for name, value in found.items() if name not in OWN}


@pytest.mark.skipif(not PEER, reason="LITEFS_PEER names no program")
@pytest.mark.parametrize("prefix", ["", "app-1"])
def test_litefs_writes_the_same(
    consul: Consul, key: str, make: Callable[..., ConsulLeaser], tmp_path: Path, prefix: str
) -> None:
    mount = tmp_path / "mnt"
    mount.mkdir()
    url = f"{consul.url}/{prefix}/" if prefix else consul.url
    leader = f"{prefix}/{key}" if prefix else key
    lease = {"type": "consul", "hostname": "one", "advertise-url": "http://one:20202"}
    config = {
        "fuse": {"dir": str(mount)},
        "data": {"dir": str(tmp_path / "data")},
        "http": {"addr": f"127.0.0.1:{free_port()}"},
        "lease": lease | {"consul": {"url": url, "key": key, "ttl": "10s", "lock-delay": "1s"}},
    }
    (tmp_path / "litefs.yml").write_text(yaml.safe_dump(config))
    peer = subprocess.Popen([PEER, "mount", "-config", str(tmp_path / "litefs.yml")], start_new_session=True)
    try:
        wait_for(lambda: consul.entry(f"{leader}/clusterid"), "cluster id of LiteFS")
        theirs = written(consul.entry(leader)), written(consul.session(leader))
        cluster_id = written(consul.entry(f"{leader}/clusterid"))

        async def beside() -> None:
            two = make("two", url=url)
            assert await two.primary() == PrimaryInfo("one", "http://one:20202")
            with pytest.raises(LeaseHeld, match="held by one"):
                await two.acquire()
            assert await two.cluster_id() == cluster_id["Value"].decode()
            await two.aclose()

        trio.run(beside)
        peer.send_signal(signal.SIGTERM)
        peer.wait(20)
        left = written(consul.entry(leader))
    finally:
        peer.kill()
        peer.wait(10)
        if mounted_type(mount):
            unmount(mount)
    consul.delete(f"{leader}/clusterid")

    async def ours() -> None:
        one = make("one", url=url, ttl=10.0, lock_delay=1.0)
        lease = await one.acquire()
        assert (written(consul.entry(leader)), written(consul.session(leader))) == theirs
        await one.set_cluster_id(cluster_id["Value"].decode())
        assert written(consul.entry(f"{leader}/clusterid")) == cluster_id
        await lease.release()
        assert written(consul.entry(leader)) == left
        await one.aclose()

    trio.run(ours)
