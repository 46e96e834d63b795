"""Nodes, of our kind and of LiteFS's, whose backup is this server."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from litefs.mount.kernel import mounted_type, unmount
from tests.support.cloud import CloudServer, running_cloud
from tests.support.nodes import Node
from tests.support.waiting import wait_for

PEER = os.environ.get("LITEFS_PEER", "")


def sql(path: str, *statements: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
    return rows


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CloudServer]:
    with running_cloud(tmp_path) as found:
        yield found


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def make(name: str, **options: Any) -> Node:
        nodes.append(Node(tmp_path / name, **options))
        return nodes[-1]

    yield make
    for node in reversed(nodes):
        node.destroy()


def position(server: CloudServer, token: str, name: str = "app.db") -> str:
    headers = {"Authorization": token}
    found = httpx.get(f"{server.url}/pos", headers=headers, trust_env=False, timeout=10).json().get(name, {})
    return f"{found.get('TXID')}/{found.get('PostApplyChecksum')}"


def test_the_whole_cluster_comes_back_and_a_mistake_is_undone(server: CloudServer, make: Callable[..., Node]) -> None:
    token = server.token("one")
    backup = {"type": "litefs-cloud", "url": server.url, "auth-token": token}
    primary = make("one", settings={"backup": backup})
    primary.start()
    replica = make("two", primary=primary)
    replica.start()
    path = primary.path("app.db")
    sql(path, "PRAGMA journal_mode=wal", "CREATE TABLE t (x)")
    for number in range(30):
        sql(path, f"INSERT INTO t VALUES ({number})")
    wait_for(lambda: position(server, token) == str(primary.pos("app.db")), "the backup")
    good = primary.pos("app.db")
    sql(path, "DROP TABLE t")
    wait_for(lambda: position(server, token) == str(primary.pos("app.db")), "the backup")
    httpx.post(
        f"{server.url}/db/restore",
        params={"db": "app.db", "txid": f"{good.txid:016x}"},
        headers={"Authorization": token},
        trust_env=False,
    ).raise_for_status()
    with closing(sqlite3.connect(replica.path("app.db"), timeout=10)) as reader:
        wait_for(lambda: len(reader.execute("SELECT name FROM sqlite_master").fetchall()) == 1, "the table", 30)
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (30,)
    final = primary.pos("app.db")
    primary.kill()
    replica.kill()
    shutil.rmtree(primary.data)
    # The identity of the cluster is in the data directory: a node that lost it must not take the place of any other.
    (primary.data).mkdir()
    (primary.data / "clusterid").write_text((replica.data / "clusterid").read_text())
    primary.start()
    assert primary.pos("app.db") == final
    assert sql(path, "SELECT count(*) FROM t") == [(30,)]
    assert token not in primary.log_file.read_text()


class GoNode(Node):
    """LiteFS itself."""

    def spawn(self, **options: Any) -> Node:
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [PEER, "mount", "-config", str(self.configuration)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def _is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            info = httpx.get(f"{self.url}/info", trust_env=False).json()
            return bool(info["isPrimary"]) and mounted_type(self.mount) is not None
        return False


@pytest.mark.skipif(not PEER, reason="no LITEFS_PEER")
def test_real_litefs_backs_up_and_restores(server: CloudServer, tmp_path: Path) -> None:
    token = server.token("one")
    backup = {"type": "litefs-cloud", "url": server.url, "auth-token": token}
    node = GoNode(tmp_path / "go", settings={"backup": backup, "lease": {"reconnect-delay": "1s"}})
    try:
        node.start()
        path = node.path("app.db")
        sql(path, "PRAGMA journal_mode=wal", "CREATE TABLE t (x)")
        for number in range(10):
            sql(path, f"INSERT INTO t VALUES ({number})")
        wait_for(lambda: position(server, token) == str(node.pos("app.db")), "the backup", 30)
        good = node.pos("app.db")
        sql(path, "DELETE FROM t")
        wait_for(lambda: position(server, token) == str(node.pos("app.db")), "the backup", 30)
        httpx.post(
            f"{server.url}/db/restore",
            params={"db": "app.db", "txid": f"{good.txid:016x}"},
            headers={"Authorization": token},
            trust_env=False,
        ).raise_for_status()
        wait_for(lambda: sql(path, "SELECT count(*) FROM t") == [(10,)], "the restored rows", 30)
        sql(path, "INSERT INTO t VALUES (10)")
        wait_for(lambda: position(server, token) == str(node.pos("app.db")), "the backup", 30)
    finally:
        node.kill()
        if mounted_type(node.mount) is not None:
            unmount(node.mount)
