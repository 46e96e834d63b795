"""Nodes whose backup is a folder, and ``litefs backup`` as its users run it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import pytest
from litefs_backup_store.folder import FolderObjects
from litefs_backup_store.keys import Key
from litefs_backup_store.sealed import SealedObjects
from litefs_backup_store.sealing import is_sealed
from litefs_backup_store.vault import Vault

from tests.support.nodes import COMMAND, Node, gathered
from tests.support.sql import sql
from tests.support.waiting import wait_for


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    found = Node(tmp_path / "node", settings={"backup": {"type": "folder", "path": str(tmp_path / "backup")}})
    with gathered([found]):
        yield found


def saved(node: Node, folder: Path, name: str = "app.db", keys: Sequence[Key] = ()) -> None:
    vault = Vault(SealedObjects(FolderObjects(folder / "backup"), keys))
    wait_for(lambda: vault.head(name, fresh=True).pos == node.pos(name), f"{name} in the backup", 30)


def litefs(node: Node, *arguments: str) -> str:
    command = [str(COMMAND), "backup", arguments[0], "-config", str(node.configuration), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=node.directory)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def refused(node: Node, *arguments: str) -> str:
    command = [str(COMMAND), "backup", arguments[0], "-config", str(node.configuration), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=node.directory)
    assert done.returncode
    return done.stderr


def test_a_table_dropped_by_mistake_comes_back_into_the_running_cluster(node: Node, tmp_path: Path) -> None:
    node.start()
    path = node.path("app.db")
    sql(path, "PRAGMA journal_mode=wal", "CREATE TABLE t (x)")
    for number in range(10):
        sql(path, f"INSERT INTO t VALUES ({number})")
    saved(node, tmp_path)
    moment = datetime.now(UTC).isoformat()
    time.sleep(0.01)  # the mistake comes after that moment
    sql(path, "DROP TABLE t", "CREATE TABLE other (x)")
    saved(node, tmp_path)
    with closing(sqlite3.connect(path, timeout=10)) as reader:
        assert reader.execute("SELECT name FROM sqlite_master").fetchall() == [("other",)]
        out = litefs(node, "restore", "-db", "app.db", "-time", moment, "-url", node.url)
        assert out.startswith('"app.db" as of ')
        assert reader.execute("SELECT count(*) FROM t").fetchall() == [(10,)]
    saved(node, tmp_path)
    # And back again.
    states = json.loads(litefs(node, "list", "-db", "app.db", "-json"))
    assert len(states) >= 3
    before_last = states[-2]["txid"]
    litefs(node, "restore", "-db", "app.db", "-txid", before_last, "-url", node.url)
    assert sql(path, "SELECT name FROM sqlite_master") == [("other",)]


def test_everything_is_deleted_and_comes_back_though_it_is_encrypted(node: Node, tmp_path: Path) -> None:
    key = Key(os.urandom(32))
    (tmp_path / "key").write_text(key.secret.hex())
    folder = {"encryption-key-file": str(tmp_path / "key")}
    node.configure({"backup": {"type": "folder", "path": str(tmp_path / "backup"), "folder": folder}})
    node.start()
    for name in ("app.db", "b.db"):
        sql(
            node.path(name),
            "PRAGMA journal_mode=wal",
            "CREATE TABLE t (x)",
            "INSERT INTO t VALUES (randomblob(300000))",
        )
        saved(node, tmp_path, name, [key])
    sql(node.path("app.db"), "INSERT INTO t VALUES (1)")
    saved(node, tmp_path, keys=[key])
    image, pos = node.export("app.db"), node.pos("app.db")
    node.kill()
    shutil.rmtree(node.data)
    node.start()
    assert node.export("app.db") == image
    assert node.pos("app.db") == pos
    assert os.path.exists(node.path("b.db"))
    out = litefs(node, "verify")
    assert f"app.db: ok, {pos}" in out
    litefs(node, "restore", "-to", str(tmp_path / "all"))
    assert (tmp_path / "all" / "app.db").read_bytes() == image
    files = [path for path in (tmp_path / "backup").rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(files) >= 5
    assert all(is_sealed(path.read_bytes()) for path in files)
    node.configure({"backup": {"type": "folder", "path": str(tmp_path / "backup")}})
    assert "no key is configured" in refused(node, "list")
    assert key.secret.hex() not in node.log_file.read_text()


def test_the_command(node: Node, tmp_path: Path) -> None:
    assert "is empty" in litefs(node, "list")
    node.start()
    sql(node.path("app.db"), "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    saved(node, tmp_path)
    done = subprocess.run([str(COMMAND), "status", "-url", node.url], capture_output=True, text=True)
    place = re.escape(f"file://{tmp_path}/backup")
    assert re.search(rf"^backup by \S+ to {place}: .*, last upload \d+ s ago$", done.stdout, re.MULTILINE)
    with urlopen(f"{node.url}/metrics", timeout=30) as response:
        metrics = response.read().decode()
    assert "\nlitefs_backup_active 1.0\n" in metrics
    assert re.search(r"^litefs_backup_upload_bytes_total [1-9]", metrics, re.MULTILINE)
    assert litefs(node, "list").splitlines()[1].startswith(f"app.db    {node.pos('app.db').txid:016x}  ")
    assert "STATES EVERY" in litefs(node, "list", "-db", "app.db")
    litefs(node, "restore", "-db", "app.db", "-to", "copy.db")
    assert sql(str(node.directory / "copy.db"), "SELECT * FROM t") == [(1,)]
    assert "database not found" in refused(node, "restore", "-db", "x.db", "-to", "x")
    assert "is no time" in refused(node, "restore", "-db", "app.db", "-time", "noon", "-to", "x")
    assert "nothing is kept of that time" in refused(
        node, "restore", "-db", "app.db", "-time", "2020-01-01T00:00:00Z", "-to", "x"
    )
    assert "no transaction" in refused(node, "restore", "-db", "app.db", "-txid", "ff", "-to", "x")
    assert not (node.directory / "x").exists()
    key = next(path for path in (tmp_path / "backup").rglob("*.ltx"))
    data = bytearray(key.read_bytes())
    data[-10] ^= 1
    key.write_bytes(data)
    assert "problems" in refused(node, "verify")


def test_killed_again_and_again(node: Node, tmp_path: Path) -> None:
    node.start()
    path = node.path("app.db")
    sql(path, "PRAGMA journal_mode=wal", "CREATE TABLE t (x)")
    for number in range(6):
        for _ in range(5):
            sql(path, f"INSERT INTO t VALUES (randomblob({20000 * number}))")
        time.sleep(0.3 * number)  # so that it hits uploads at different moments
        node.kill()
        node.start()
    saved(node, tmp_path)
    litefs(node, "restore", "-db", "app.db", "-to", "copy.db")
    assert (node.directory / "copy.db").read_bytes() == node.export("app.db")
    assert "ok" in litefs(node, "verify")
