from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lease_file import installed
from tests.support.nodes import gathered

from .cluster import Member, member
from .fakes import Cluster


@pytest.fixture
def make_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Member]]:
    """Factory of nodes around one lease: `make_member("name", **lease)`, which sees to their end (`gathered`)."""
    monkeypatch.setenv("PYTHONPATH", str(installed(tmp_path)))
    nodes: list[Member] = []

    def make(name: str, **lease: Any) -> Member:
        nodes.append(member(tmp_path, name, **lease))
        return nodes[-1]

    with gathered(nodes):
        yield make


@pytest.fixture
def cluster(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Cluster:
    """Nodes in memory and virtual time, around a lease in memory. All that they log can be looked at."""
    caplog.set_level("INFO")
    return Cluster(tmp_path)
