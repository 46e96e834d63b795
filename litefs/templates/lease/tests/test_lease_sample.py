"""Everything that litefs relies on, and what is special about this lease."""

from __future__ import annotations

from pathlib import Path

import litefs_lease_sample as plugin
import pytest
import trio
from litefs_lease_sample.leaser import SampleLeaser
from litefs_lease_sample.register import Record, Register

from litefs.errors import ConfigError
from litefs.leases import LeaseUnavailable
from litefs.testing import LeaseConformance, lease_config, node_info


class TestConformance(LeaseConformance):
    """With a wall clock that moves only when the suite says so."""

    @pytest.fixture(autouse=True)
    def _backend(self, tmp_path: Path) -> None:
        self.path = str(tmp_path / "lease")
        self.now = 1e9

    async def leaser(self, name: str) -> SampleLeaser:
        register = Register(self.path)
        return SampleLeaser(register, name, f"http://{name}:20202", ttl=10.0, skew=0.1, clock=lambda: self.now)

    async def pass_time(self, seconds: float) -> None:
        await trio.lowlevel.checkpoint()
        self.now += seconds

    async def revoke(self) -> None:
        register = Register(self.path)
        version, record = register.read()
        register.swap(version, Record(cluster_id=record.cluster_id))


def test_settings() -> None:
    leaser = plugin.make(lease_config(plugin, {"type": "sample", "sample": {"path": "/l"}}), node_info("one"))
    assert (leaser.hostname, leaser.advertise_url) == ("one", "http://one:20202")
    with pytest.raises(ConfigError, match=r"lease\.sample"):
        lease_config(plugin, {"type": "sample", "sample": {}})


def test_a_backend_that_is_away(tmp_path: Path) -> None:
    with pytest.raises(LeaseUnavailable, match="nowhere"):
        Register(str(tmp_path / "nowhere" / "lease")).read()
