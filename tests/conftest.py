from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from litefs.mount.kernel import mounted_type
from tests.support.nodes import COMMAND, Node

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
    """Factory of nodes: `make_node("name", primary=..., settings=...)`. None of them is left behind.

    An error in the log of a node that the test did not expect fails the test.
    """
    if not COMMAND.exists():
        pytest.skip(f"the command is not installed: no {COMMAND}")
    nodes: list[Node] = []

    def make(name: str = "node", **options: Any) -> Node:
        nodes.append(Node(tmp_path / name, **options))
        return nodes[-1]

    yield make
    for node in reversed(nodes):
        node.destroy()
    assert not [node.mount for node in nodes if mounted_type(node.mount)], "mounts are left behind"
    surprises = {node.name: node.surprises() for node in nodes}
    assert not any(surprises.values()), f"unexpected errors in the log: {surprises}"
