from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.support.nodes import Node
from tests.support.sql import sql as run_sql
from tests.support.waiting import wait_for

from .application import Remote


def sql(node: Node, *statements: str, name: str = "db", timeout: float = 10.0) -> list[Any]:
    """Statements on a connection of their own; what the last one returns."""
    return run_sql(node.path(name), *statements, timeout=timeout)


def rows(node: Node, name: str = "db") -> list[int]:
    """The content of table t."""
    return [row[0] for row in sql(node, "SELECT x FROM t ORDER BY x", name=name)]


class Cluster:
    """A primary and replicas, all with one database."""

    def __init__(self, make_node: Callable[..., Node]) -> None:
        self._make = make_node
        self._applications: list[Remote] = []

    def start(self, mode: str = "wal", replicas: int = 1) -> list[Node]:
        """Start them and wait until the database is everywhere."""
        primary = self._make("a").start()
        sql(primary, f"PRAGMA journal_mode={mode}", "CREATE TABLE t(x)", "INSERT INTO t VALUES(0)")
        nodes = [primary]
        for number in range(replicas):
            nodes.append(self._make(f"b{number}", primary=primary).start())
        for node in nodes[1:]:
            node.wait_pos("db", primary.pos("db"))
        return nodes

    def application(self, node: Node, name: str = "db") -> Remote:
        """An application on a node."""
        self._applications.append(Remote(node.path(name)))
        return self._applications[-1]

    def close(self) -> None:
        """End the applications."""
        for application in self._applications:
            application.__exit__(None, None, None)


@pytest.fixture
def cluster(make_node: Callable[..., Node]) -> Iterator[Cluster]:
    made = Cluster(make_node)
    yield made
    made.close()


def assert_same(*nodes: Node, name: str = "db") -> None:
    """All nodes are at one position, with the same bytes, and sound."""
    first = nodes[0]
    for node in nodes[1:]:
        wait_for(lambda node=node: node.pos(name) == first.pos(name), f"{node.name} where {first.name} is")  # type: ignore[misc]
    contents = []
    for node in nodes:
        assert sql(node, "PRAGMA integrity_check", name=name) == [("ok",)]
        with closing(sqlite3.connect(node.path(name))) as db:
            contents.append(list(db.iterdump()))
    assert all(content == contents[0] for content in contents)
