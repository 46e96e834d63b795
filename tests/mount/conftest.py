from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.nodes import Node

from .application import connect

KEEP = {"data": {"retention": "24h"}}  # all LTX files, so that replaying them gives the database


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    """A primary on its own."""
    return make_node(settings=KEEP).start()


@pytest.fixture
def capturing(make_node: Callable[..., Node]) -> Node:
    """A primary that lets applications write without a journal."""
    return make_node(settings=KEEP | {"fuse": {"unjournaled-writes": "capture"}}).start()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., sqlite3.Connection]]:
    """Factory of connections in autocommit mode: `opened(path, journal="wal")`. They are closed at the end."""
    connections: list[sqlite3.Connection] = []

    def make(path: str | Path, **pragmas: Any) -> sqlite3.Connection:
        connections.append(connect(path, **pragmas))
        return connections[-1]

    yield make
    for connection in connections:
        connection.close()
