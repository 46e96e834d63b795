"""Backups of real nodes: what comes back, when applications may start, and what is kept of a state that loses."""

from __future__ import annotations

import io
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from litefs import ltx
from litefs.backup.folding import fold
from litefs.store.branches import branches
from tests.support.nodes import COMMAND, Node
from tests.support.sql import sql
from tests.support.waiting import wait_for

Make = Callable[..., Node]


def backed(make_node: Make, folder: Path, name: str = "node", **options: Any) -> Node:
    """A node that backs up to a directory."""
    settings = {"backup": {"type": "file", "path": str(folder / "backup"), **options.pop("backup", {})}, **options}
    return make_node(name, settings=settings)


def saved(node: Node, folder: Path, db: str = "app.db") -> None:
    """Wait until the backup has what the node has."""
    last = f"-{node.pos(db).txid:016x}.ltx"
    wait_for(lambda: list((folder / "backup" / db).glob(f"*{last}")), f"backup of {last}")


def content(files: list[Path]) -> bytes:
    """The database that LTX files lead to."""
    output = io.BytesIO()
    fold(files, output, compress=False)
    output.seek(0)
    return b"".join(bytes(page) for _, page in ltx.Decoder(output))


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_an_empty_node_has_everything_before_its_application_starts(make_node: Make, tmp_path: Path, mode: str) -> None:
    node = backed(make_node, tmp_path)
    node.start()
    sql(
        node.path("app.db"),
        f"PRAGMA journal_mode={mode}",
        "CREATE TABLE t (x)",
        "INSERT INTO t VALUES (randomblob(3000000))",
    )
    for number in range(20):
        sql(node.path("app.db"), f"INSERT INTO t VALUES ({number})")
    saved(node, tmp_path)
    rows, pos = sql(node.path("app.db"), "SELECT * FROM t"), node.pos("app.db")
    node.stop()
    shutil.rmtree(node.data)

    found = tmp_path / "found"
    command = f"sqlite3 {node.path('app.db')} 'SELECT count(*) FROM t'"
    with open(node.configuration, "a") as file:
        file.write(yaml.safe_dump({"exec": [{"cmd": f'sh -c "{command} > {found}"'}, {"cmd": "sleep 1000"}]}))
    node.start()
    assert found.read_text() == "21\n"
    assert node.pos("app.db") == pos
    assert sql(node.path("app.db"), "SELECT * FROM t") == rows
    sql(node.path("app.db"), "INSERT INTO t VALUES ('on')")
    saved(node, tmp_path)


def test_the_state_that_loses_is_kept_whole(make_node: Make, tmp_path: Path) -> None:
    """Also when its LTX files alone do not reach back to the beginning."""
    node = backed(make_node, tmp_path)
    node.start()
    sql(node.path("app.db"), "PRAGMA journal_mode=wal", "CREATE TABLE t (x)", "INSERT INTO t VALUES ('ours')")
    saved(node, tmp_path)
    node.stop()
    node.configure({})
    node.start()
    for number in range(5):
        sql(node.path("app.db"), f"INSERT INTO t VALUES ({number})")
    node.stop()
    for path in sorted((node.files("app.db") / "ltx").glob("*.ltx"))[:-1]:
        path.unlink()
    node.configure({"backup": {"type": "file", "path": str(tmp_path / "backup")}})
    node.start()
    with closing(sqlite3.connect(node.path("app.db"), timeout=10)) as reader:
        wait_for(lambda: reader.execute("SELECT * FROM t").fetchall() == [("ours",)], "the backup's rows")
    (branch,) = branches(node.data)
    assert branch.name in node.log()
    assert "reason=ltx-not-found" in node.log()
    kept = tmp_path / "kept.db"
    command = [str(COMMAND), "branches", "export", "-config", str(node.configuration), "-o", str(kept), branch.name]
    subprocess.run(command, check=True)
    with closing(sqlite3.connect(kept)) as connection:
        rows = connection.execute("SELECT * FROM t").fetchall()
    assert rows == [("ours",), *((number,) for number in range(5))]


def test_a_replica_of_the_restored_primary_follows(make_node: Make, tmp_path: Path) -> None:
    """The restored state has an earlier position than the one that the replica has."""
    node = backed(make_node, tmp_path, "one")
    node.start()
    replica = make_node("two", primary=node)
    replica.start()
    sql(node.path("app.db"), "CREATE TABLE t (x)", "INSERT INTO t VALUES ('ours')")
    saved(node, tmp_path)
    replica.wait_pos("app.db", node.pos("app.db"))
    files = sorted((tmp_path / "backup" / "app.db").glob("*.ltx"))
    other = ltx_of_another_history()
    for path in files:
        path.unlink()
    (files[0].parent / "0000000000000001-0000000000000001.ltx").write_bytes(other)
    sql(node.path("app.db"), "INSERT INTO t VALUES ('lost')")
    wait_for(lambda: node.pos("app.db").txid == 1, "the restored position")
    replica.wait_pos("app.db", node.pos("app.db"))
    assert (
        sql(replica.path("app.db"), "SELECT * FROM t") == sql(node.path("app.db"), "SELECT * FROM t") == [("theirs",)]
    )
    for number in range(3):
        sql(node.path("app.db"), f"INSERT INTO t VALUES ({number})")
    replica.wait_pos("app.db", node.pos("app.db"))
    saved(node, tmp_path)
    pos = node.pos("app.db")
    node.stop()
    node.start()
    assert node.pos("app.db") == pos


def ltx_of_another_history() -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("CREATE TABLE t (x); INSERT INTO t VALUES ('theirs');")
        data = connection.serialize()
    pages = [(n + 1, data[n * 4096 : (n + 1) * 4096]) for n in range(len(data) // 4096)]
    checksum = ltx.database_checksum([ltx.page_checksum(n, page) for n, page in pages])
    return ltx.encode(ltx.Header(4096, len(pages), 1, 1, timestamp=1), pages, checksum)


def test_killed_in_the_middle_of_everything(make_node: Make, tmp_path: Path) -> None:
    """Whatever the moment, the next start goes on, and in the end the backup has it all."""
    node = backed(make_node, tmp_path)
    node.start()
    sql(node.path("app.db"), "PRAGMA journal_mode=wal", "CREATE TABLE t (x)")
    for number in range(8):
        sql(node.path("app.db"), f"INSERT INTO t VALUES (randomblob({100000 * number}))")
        if number % 2:
            node.kill()
            node.start()
    saved(node, tmp_path)
    files = sorted((tmp_path / "backup" / "app.db").glob("*.ltx"))
    assert content(files) == node.export("app.db")
