"""Nodes, of our kind and of LiteFS's, whose backup is this server."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from litefs.mount.kernel import mounted_type, unmount
from tests.support.cloud import CloudServer, running_cloud
from tests.support.nodes import Node, gathered
from tests.support.sql import sql
from tests.support.waiting import wait_for

PEER = os.environ.get("LITEFS_PEER", "")


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

    with gathered(nodes):
        yield make


def position(server: CloudServer, token: str, name: str = "app.db") -> str:
    headers = {"Authorization": token}
    found = httpx.get(f"{server.url}/pos", headers=headers, trust_env=False, timeout=10).json().get(name, {})
    return f"{found.get('TXID')}/{found.get('PostApplyChecksum')}"


def get(node: Node, path: str) -> str:
    """What the node answers; empty while it does not listen yet."""
    with suppress(httpx.TransportError):
        return httpx.get(f"{node.url}{path}", trust_env=False, timeout=10).text
    return ""


def test_no_node_is_ready_before_the_backup_is_there(server: CloudServer, make: Callable[..., Node]) -> None:
    """A replica neither: its application would find nothing, as if there had never been anything."""
    token = server.token("one")
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1);")
        image = connection.serialize()
    upload(server, token, "app.db", image)
    server.end()
    primary = make("one", settings={"backup": {"type": "litefs-cloud", "url": server.url, "auth-token": token}}).spawn()
    replica = make("two", primary=primary).spawn()
    wait_for(lambda: "waiting for the backup" in get(primary, "/readyz"), "a primary that waits")
    wait_for(
        lambda: json.loads(get(replica, "/status") or "{}").get("lagMs") is not None, "a replica that is connected"
    )
    assert "waiting to connect" in get(replica, "/readyz")
    server.start()
    for node in (primary, replica):
        node.wait_ready()
        assert sql(node.path("app.db"), "SELECT x FROM t") == [(1,)]
    assert token not in primary.log_file.read_text()


def upload(server: CloudServer, token: str, name: str, image: bytes) -> None:
    """Put a SQLite file into the backup."""
    answer = httpx.post(
        f"{server.url}/db/upload",
        params={"db": name},
        content=image,
        headers={"Authorization": token},
        trust_env=False,
        timeout=30,
    )
    answer.raise_for_status()


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


def has_own(node: Node, name: str) -> bool:
    """Whether the uploaded table is there; makes no database where there is none."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{node.path(name)}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT x FROM t").fetchall() == [("own",)]
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
        # A file that is put into the backup, as a database that the node has not, and in the place of one that it has.
        with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
            connection.executescript("CREATE TABLE t (x); INSERT INTO t VALUES ('own');")
        for name in ("own.db", "app.db"):
            upload(server, token, name, (tmp_path / "own.db").read_bytes())
            wait_for(partial(has_own, node, name), f"the uploaded {name}", 30)
    finally:
        node.kill()
        if mounted_type(node.mount) is not None:
            unmount(node.mount)
