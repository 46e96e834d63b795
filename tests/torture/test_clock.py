"""The wall clock is set, while a node runs and between two starts. What is right must not depend on it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from litefs_backup_store.folder import FolderObjects
from litefs_backup_store.image import write_image
from litefs_backup_store.sealed import SealedObjects
from litefs_backup_store.vault import Vault

from litefs import ltx
from tests.support import chain
from tests.support.nodes import Node
from tests.support.waiting import wait_for
from tests.support.wallclock import WallClock

MakeNode = Callable[..., Node]
pytestmark = pytest.mark.slow
NAME = "app.db"
HOUR, YEAR = 3600, 365 * 86400  # seconds
ROWS = 3  # at each time


def insert(connection: sqlite3.Connection) -> None:
    for _ in range(ROWS):
        connection.execute("INSERT INTO t DEFAULT VALUES")


def timestamps(node: Node) -> list[int]:
    """Of all transactions, in their order: ms since the epoch."""
    found = []
    for path in sorted((node.files(NAME) / "ltx").glob("*.ltx")):
        with open(path, "rb") as file:
            found.append(ltx.read_info(file)[0].timestamp)
    return found


def rows_at(vault: Vault, timestamp: int, folder: Path) -> int:
    """How many the state of that time has, restored from the backup."""
    with open(folder / "restored.ltx", "wb+") as file, open(folder / "restored.db", "wb") as image:
        vault.restore(NAME, file, timestamp=timestamp)
        file.seek(0)
        write_image(file, image, lambda count: None)
    with closing(sqlite3.connect(folder / "restored.db")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM t").fetchone()
    return int(count)


def saved(vault: Vault, node: Node) -> None:
    wait_for(lambda: vault.head(NAME, fresh=True).pos == node.pos(NAME), "backup")


def test_steps_of_the_clock(make_node: MakeNode, tmp_path: Path) -> None:
    """Backward, to before the node was last started, and forward again."""
    clock = WallClock(tmp_path / "clock")
    vault = Vault(SealedObjects(FolderObjects(tmp_path / "backup"), ()))
    settings = {"data": {"retention": "24h"}, "backup": {"type": "folder", "path": str(tmp_path / "backup")}}
    primary = make_node("primary", settings=settings).start(env=clock.env)
    replica = make_node("replica", primary=primary).start()  # its clock is right
    with closing(sqlite3.connect(primary.path(NAME), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
        insert(connection)
        right = clock.now()
        clock.set(-HOUR)
        insert(connection)
        replica.wait_pos(NAME, primary.pos(NAME))
    primary.kill()
    clock.set(-YEAR)
    primary.start(env=clock.env)
    with closing(sqlite3.connect(primary.path(NAME), isolation_level=None)) as connection:
        insert(connection)
        behind = timestamps(primary)[-1]
        saved(vault, primary)  # it takes what waits as one file, with the time of the last transaction
        clock.set(HOUR)
        insert(connection)
        ahead = clock.now()
        clock.set(0)
        insert(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    replica.wait_pos(NAME, primary.pos(NAME))
    saved(vault, primary)

    image = chain.check(primary.files(NAME), primary.pos(NAME)).image
    assert chain.files_image(replica.files(NAME)) == image
    found = timestamps(primary)
    assert found == sorted(found)
    assert behind <= right < found[-1] <= ahead
    # Each time leads to all that was committed until it was shown last: what came while the clock was behind counts
    # as of the last right moment.
    assert rows_at(vault, behind, tmp_path) == 3 * ROWS
    assert rows_at(vault, right + 1000 * HOUR // 2, tmp_path) == 3 * ROWS
    assert rows_at(vault, ahead, tmp_path) == 5 * ROWS
    assert primary.stop() == 0
    assert replica.stop() == 0
