from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.nodes import Node, gathered

# A busy machine makes examples slow, which says nothing about what is tested.
settings.register_profile("litefs", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("litefs")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture-rounds", type=int, default=0, help="rounds of kill -9 a test, 0 = few")
    parser.addoption("--proxy-writes", type=int, default=0, help="writes through proxies during a switch, 0 = few")
    parser.addoption("--crash-states", type=int, default=120, help="power failures that are played through")
    parser.addoption("--crash-recording", help="directory in which what they are played on is kept")


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Factory of nodes: `make_node("name", primary=..., settings=...)`, which sees to their end (`gathered`)."""
    nodes: list[Node] = []

    def make(name: str = "node", **options: Any) -> Node:
        nodes.append(Node(tmp_path / name, **options))
        return nodes[-1]

    with gathered(nodes):
        yield make
