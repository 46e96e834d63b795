"""Everything that litefs relies on, and what is special about this proxy."""

from __future__ import annotations

import litefs_proxy_sample
import pytest

from litefs.errors import ConfigError
from litefs.leases import PrimaryInfo
from litefs.testing import ProxyConformance, proxy_config


class TestConformance(ProxyConformance):
    plugin = litefs_proxy_sample
    type = "sample"

    async def check_redirect(self) -> None:
        """A write on a replica is sent to the primary's proxy."""
        async with self._site() as site:
            site.node.follow(PrimaryInfo("two", "http://two:20202"))
            answer = await site.client.post("/a?b")
            assert answer.status_code == 307
            assert answer.headers["location"] == f"http://two:{site.client.base_url.port}/a?b"

    def test_redirect(self) -> None:
        self.run_check(self.check_redirect)


def test_settings() -> None:
    section = {"type": "sample", "addr": ":1", "target": ":2", "db": "db"}
    assert proxy_config(litefs_proxy_sample, section).section == {"retry-after": 1.0}
    with pytest.raises(ConfigError, match=r"proxy\.sample\.retry"):
        proxy_config(litefs_proxy_sample, {**section, "sample": {"retry": "1s"}})
