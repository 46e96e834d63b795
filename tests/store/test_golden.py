"""Data directories that LiteFS wrote: a node that starts on a copy finds what LiteFS itself found there."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from litefs.ltx import EMPTY, Pos
from litefs.store import branches
from tests.support import chain
from tests.support.nodes import Node

GOLDEN = Path(os.environ.get("LITEFS_GOLDEN") or Path(__file__).parents[3] / "shared" / "golden") / "datadir"
CRASHED = ("open", "tail", "restart", "restart-tail", "busy")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"recorded data directories are not at {GOLDEN}: set LITEFS_GOLDEN"),
]
MakeNode = Callable[..., Node]


def describe(case: str) -> dict[str, Any]:
    description: dict[str, Any] = json.loads((GOLDEN / f"{case}.json").read_text())
    return description


def place(case: str, target: Path) -> None:
    """Copy a data directory as it lay on disk."""
    for file in describe(case)["files"]:
        path = target / file["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        source = GOLDEN / case / file["stored_as"]
        if file["stored_as"] == f"{file['path']}.gz":
            path.write_bytes(gzip.decompress(source.read_bytes()))
        else:
            shutil.copy(source, path)
        assert path.stat().st_size == file["size"]


def expected_database(case: str) -> bytes:
    path = GOLDEN / f"{case}.expected-database"
    return path.read_bytes() if path.exists() else gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes())


def rows(node: Node, name: str) -> list[int]:
    with closing(sqlite3.connect(node.path(name))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (table,) = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchone()
        return list(connection.execute(f"SELECT count(*), max(a) FROM {table}").fetchone())


@pytest.mark.parametrize("case", [*(f"crash-wal-{how}" for how in CRASHED), "crash-journal", "crash-journal-busy"])
def test_after_a_crash(make_node: MakeNode, case: str) -> None:
    description = describe(case)
    node = make_node()
    place(case, node.data)
    node.start()
    pos, expected = node.pos("app.db"), Pos.parse(description["expected_position"])
    assert node.stop() == 0
    found = chain.check(node.files("app.db"), pos)
    if pos == expected:
        assert found.image == expected_database(case)
    else:
        # A complete transaction that nobody was told of: LiteFS cuts it off, here it counts.
        assert case.endswith("-busy")
        assert pos.txid == expected.txid + 1
    assert not node.files("app.db").joinpath("wal").exists()
    assert not node.files("app.db").joinpath("journal").exists()
    assert not branches.branches(node.data)


@pytest.mark.parametrize("case", ["crash-wal-tail", "crash-journal"])
def test_work_goes_on_after_a_crash(make_node: MakeNode, case: str) -> None:
    node = make_node()
    place(case, node.data)
    node.start()
    expected = describe(case)["after_restart"]["row_count_and_max_a"]["app.db"]
    assert rows(node, "app.db") == expected
    before = node.pos("app.db")
    with closing(sqlite3.connect(node.path("app.db"))) as connection, connection:
        connection.execute("CREATE TABLE more (x)")
    assert node.pos("app.db").txid == before.txid + 1
    assert node.stop() == 0
    chain.replay(node.files("app.db"))


def test_after_a_clean_stop(make_node: MakeNode) -> None:
    description = describe("clean")
    node = make_node()
    place("clean", node.data)
    before = {path: path.read_bytes() for path in node.data.glob("dbs/*/database")}
    node.start()
    for name, position in description["position_before_stop"].items():
        assert node.pos(name) == Pos.parse(position)
    assert {name for name in os.listdir(node.mount) if name.endswith(".db")} == {"app.db", "jobs.db"}
    assert node.pos("gone.db").checksum == EMPTY
    assert not node.mount.joinpath("gone.db").exists()
    for name, expected in description["after_restart"]["row_count_and_max_a"].items():
        assert rows(node, name) == expected
    assert node.stop() == 0
    assert {path: path.read_bytes() for path in node.data.glob("dbs/*/database")} == before
    assert node.data.joinpath("clusterid").read_bytes() == GOLDEN.joinpath("clean", "clusterid").read_bytes()


def test_a_deleted_database_can_be_made_again(make_node: MakeNode) -> None:
    node = make_node()
    place("clean", node.data)
    node.start()
    before = node.pos("gone.db")
    with closing(sqlite3.connect(node.path("gone.db"))) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
    assert node.pos("gone.db").txid == before.txid + 1
    assert node.stop() == 0


def test_directory_of_a_replica(make_node: MakeNode) -> None:
    description = describe("replica")
    node = make_node()
    place("replica", node.data)
    node.start()
    for name, position in description["position"].items():
        assert node.pos(name) == Pos.parse(position)
    assert not node.mount.joinpath("other.db").exists()
    before = node.files("my.db").joinpath("database").read_bytes()
    assert rows(node, "my.db")[0] > 0
    pos = node.pos("my.db")
    assert node.stop() == 0
    assert chain.check(node.files("my.db"), pos).image == before
