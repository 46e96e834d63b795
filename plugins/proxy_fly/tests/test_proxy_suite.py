"""What litefs expects of every proxy."""

from __future__ import annotations

from types import MappingProxyType

import litefs_proxy_fly
import pytest

from litefs.testing import ProxyConformance


class TestConformance(ProxyConformance):
    plugin = litefs_proxy_fly
    type = "fly"


def test_the_suite_finds_what_writes_on_a_replica() -> None:
    class Careless(TestConformance):
        settings = MappingProxyType({"passthrough": ["*"]})

    with pytest.raises(AssertionError):
        Careless().test_writes_on_a_replica()  # type: ignore[attr-defined]
