"""A fake node behind the real API on a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from litefs.http.app import build

from .fakes import FakeNode
from .server import Server


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


@pytest.fixture
def make_server() -> Iterator[Callable[..., Server]]:
    """Factory of servers, which are stopped at the end."""
    servers: list[Server] = []

    def make(app: Any, **options: Any) -> Server:
        servers.append(Server(app, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def server(node: FakeNode, make_server: Callable[..., Server]) -> Server:
    return make_server(build(node.services), closing=node.services.closing)


@pytest.fixture(params=["http1", "h2c"])
def http(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    """A client of the served node, over either protocol."""
    with getattr(server, request.param)() as client:
        yield client
