"""Two nodes, a real Consul and a real S3 server: the primary changes, everything is lost, a mistake is undone.

With ``--torture-rounds N`` the first test makes 10,000 transactions and changes the primary N times, and the primary
is killed in the middle of an upload, too.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import pytest
from litefs_backup_s3.objects import S3Objects
from litefs_backup_store.vault import Vault

from tests.support.consul import Consul, running_consul
from tests.support.nodes import COMMAND, Node
from tests.support.relay import Relay
from tests.support.s3 import BUCKET, S3Server, running_s3
from tests.support.sql import sql
from tests.support.waiting import wait_for

NAME = "app.db"
BLOB = 12_000_000  # bytes: an upload in several parts
SLOW = 3_000_000  # bytes a second, so that something can happen on the way
LIMIT = 60.0  # seconds for what takes a few


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Consul, S3Server]]:
    folder = tmp_path_factory.mktemp("servers")
    (folder / "s3").mkdir()
    with running_s3(folder / "s3") as s3, running_consul(folder) as consul:
        yield consul, s3


class Cluster:
    """Two nodes, each with a way of its own to the S3 server."""

    def __init__(self, servers: tuple[Consul, S3Server], make_node: Callable[..., Node], prefix: str) -> None:
        self.consul, self.s3 = servers
        self.prefix = prefix
        self.url = f"s3://{BUCKET}/{prefix}"
        self.ways = {name: Relay(self.s3.port) for name in "ab"}
        self.nodes = {name: make_node(name) for name in "ab"}
        for name, node in self.nodes.items():
            consul = {"url": self.consul.url, "key": f"litefs/{prefix}", "ttl": "2s", "lock-delay": "100ms"}
            lease = {"type": "consul", "hostname": name, "advertise-url": node.url, "reconnect-delay": "100ms"}
            section = {**self.s3.section(), "endpoint": self.ways[name].url}
            node.configure(
                {"lease": {**lease, "consul": consul}, "backup": {"type": "s3", "url": self.url, "s3": section}}
            )
            node.expected += ["lease", "cannot reach"]

    def close(self) -> None:
        for way in self.ways.values():
            way.close()

    def vault(self) -> Vault:
        return Vault(S3Objects(self.url, self.s3.section()))

    def wait_saved(self, node: Node) -> None:
        """Wait until the backup has what a node has."""
        vault = self.vault()
        wait_for(lambda: vault.head(NAME, fresh=True).pos == node.pos(NAME), "the backup", LIMIT)

    def wait_same(self) -> None:
        a, b = self.nodes.values()
        wait_for(lambda: a.pos(NAME) == b.pos(NAME), "the same position on both nodes", LIMIT)

    def backup(self, *arguments: str) -> str:
        node = self.nodes["a"]
        command = [str(COMMAND), "backup", arguments[0], "-config", str(node.configuration), *arguments[1:]]
        done = subprocess.run(command, capture_output=True, text=True, cwd=node.directory)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def promote(self, name: str) -> None:
        self.nodes[name].post("/promote")
        wait_for(lambda: self.nodes[name].is_primary, f"{name} as primary", LIMIT)


@contextmanager
def cluster_of(servers: tuple[Consul, S3Server], make_node: Callable[..., Node], prefix: str) -> Iterator[Cluster]:
    cluster = Cluster(servers, make_node, prefix)
    try:
        yield cluster
    finally:
        cluster.close()


def insert(node: Node, first: int, count: int) -> None:
    with closing(sqlite3.connect(node.path(NAME), timeout=30, isolation_level=None)) as connection:
        for number in range(first, first + count):
            connection.execute("INSERT INTO t VALUES (?, randomblob(50))", (number,))


def test_the_cluster_is_lost_and_comes_back_and_a_mistake_is_undone(
    servers: tuple[Consul, S3Server], make_node: Callable[..., Node], pytestconfig: pytest.Config
) -> None:
    rounds = pytestconfig.getoption("--torture-rounds")
    changes, count = rounds or 2, 10_000 if rounds else 300
    with cluster_of(servers, make_node, "scenario") as cluster:
        nodes = list(cluster.nodes.values())
        for node in nodes:
            node.start()
        assert nodes[0].is_primary
        sql(nodes[0].path(NAME), "PRAGMA journal_mode=wal", "CREATE TABLE t (n INTEGER PRIMARY KEY, data)")
        step = count // (changes + 1)
        for number in range(changes + 1):
            insert(nodes[number % 2], number * step, step)
            if number < changes:
                cluster.promote("ab"[(number + 1) % 2])
        primary, total = nodes[changes % 2], (changes + 1) * step
        assert sql(primary.path(NAME), "SELECT count(*), max(n) FROM t") == [(total, total - 1)]
        cluster.wait_same()
        cluster.wait_saved(primary)
        image, pos = primary.export(NAME), primary.pos(NAME)
        assert nodes[1 - changes % 2].export(NAME) == image

        # Everything is gone but the backup: data directories, and what Consul knew of the cluster.
        for node in nodes:
            node.kill()
            shutil.rmtree(node.data)
        cluster.consul.request("DELETE", "/v1/kv/litefs/scenario?recurse")
        for node in nodes:
            node.start()
        for node in nodes:
            assert (node.pos(NAME), node.export(NAME)) == (pos, image)

        # A mistake, seen too late: somebody has written since.
        wait_for(lambda: any(node.is_primary for node in nodes), "a primary")
        primary = next(node for node in nodes if node.is_primary)
        moment = datetime.now(UTC).isoformat()
        wait_for(lambda: datetime.now(UTC).isoformat()[:22] > moment[:22], "the next hundredth of a second")
        sql(primary.path(NAME), "DROP TABLE t", "CREATE TABLE other (x)")
        cluster.wait_saved(primary)
        with closing(sqlite3.connect(primary.path(NAME))) as reader:
            assert reader.execute("SELECT name FROM sqlite_master").fetchall() == [("other",)]
            assert cluster.backup("restore", "-db", NAME, "-time", moment, "-url", primary.url)
            assert reader.execute("SELECT count(*) FROM t").fetchall() == [(total,)]
        cluster.wait_same()
        for node in nodes:
            assert sql(node.path(NAME), "SELECT count(*) FROM t") == [(total,)]
        cluster.wait_saved(primary)
        assert f"{NAME}: ok, {primary.pos(NAME)}" in cluster.backup("verify")


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_the_primary_changes_in_the_middle_of_an_upload(
    servers: tuple[Consul, S3Server], make_node: Callable[..., Node], pytestconfig: pytest.Config, how: str
) -> None:
    """A node that dies, or stands still, with half of an upload sent: the next one goes on, and its word counts."""
    if how == "kill" and not pytestconfig.getoption("--torture-rounds"):
        pytest.skip("a longer form: --torture-rounds 1")
    with cluster_of(servers, make_node, how) as cluster:
        a, b = cluster.nodes["a"].start(), cluster.nodes["b"].start()
        assert a.is_primary
        sql(
            a.path(NAME),
            "PRAGMA journal_mode=wal",
            "CREATE TABLE t (n, data)",
            "INSERT INTO t VALUES (1, randomblob(100))",
        )
        cluster.wait_same()
        cluster.wait_saved(a)
        way = cluster.ways["a"]
        way.rate = SLOW
        sql(a.path(NAME), f"INSERT INTO t VALUES (2, randomblob({BLOB}))")
        cluster.wait_same()
        wait_for(lambda: b"partNumber=2" in way.seen, "the second part of an upload", LIMIT)
        assert a.process is not None
        if how == "kill":
            a.kill()
        else:
            os.kill(a.process.pid, signal.SIGSTOP)
        wait_for(lambda: b.is_primary, "b as primary", LIMIT)
        sql(b.path(NAME), "INSERT INTO t VALUES (3, randomblob(100))")
        cluster.wait_saved(b)
        way.rate = None
        if how == "kill":
            a.start()
        else:
            os.kill(a.process.pid, signal.SIGCONT)
        wait_for(lambda: not a.info()["isPrimary"], "a as replica", LIMIT)
        cluster.wait_same()
        insert(b, 4, 20)
        cluster.wait_saved(b)
        cluster.wait_same()
        assert sql(a.path(NAME), "SELECT count(*) FROM t") == [(23,)]
        assert f"{NAME}: ok, {b.pos(NAME)}" in cluster.backup("verify")
        copy = a.directory / "copy.db"
        cluster.backup("restore", "-db", NAME, "-to", str(copy))
        assert copy.read_bytes() == b.export(NAME) == a.export(NAME)
        assert "restoring from backup" not in a.log_file.read_text() + b.log_file.read_text()
