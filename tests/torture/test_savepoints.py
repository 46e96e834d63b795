"""Transactions larger than SQLite's cache, with savepoints that are rolled back: what that leaves in a log is odd.

Frames are overwritten, some are left without checksums, the log begins anew in the middle of a transaction (see
`litefs.store.wal`). Every commit must be captured, and found by whoever opens the database next, also after the writer
was killed. `--torture-rounds 100` for more than the seeds that were trouble once.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import chain
from tests.support.nodes import Node

MakeNode = Callable[..., Node]
Statement = tuple[str, tuple[object, ...]]
pytestmark = pytest.mark.slow
TROUBLE = (2, 39, 1027)  # seeds
WRITERS = 4  # processes, one after another
CACHES = (5, 10, 20, 30)  # pages


def setup(connection: sqlite3.Connection, page_size: int) -> None:
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute("PRAGMA journal_mode = wal").fetchall()
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, k, x)")
    connection.execute("CREATE INDEX t_k ON t (k)")
    connection.execute("CREATE TABLE log (n INTEGER PRIMARY KEY)")


def statements(seed: int, n: int) -> Iterator[Statement]:
    """Transaction n, but for BEGIN and COMMIT."""
    chance = random.Random(f"{seed}/{n}")
    depth = 0
    for _ in range(chance.randrange(2, 14)):
        kind = chance.randrange(12)
        if kind < 3:
            yield _insert(chance)
        elif kind < 5:
            divisor = chance.choice((2, 3, 7, 20))
            yield f"UPDATE t SET x = ?, k = k + 1 WHERE id % {divisor} = 0", (chance.randbytes(chance.randrange(900)),)
        elif kind < 6:
            yield f"DELETE FROM t WHERE id % {chance.choice((5, 9))} = 1", ()
        elif kind < 8:
            yield f"SAVEPOINT s{depth}", ()
            depth += 1
        elif kind < 10 and depth:
            depth = chance.randrange(depth) + 1
            yield f"ROLLBACK TO s{depth - 1}", ()
        elif kind < 11 and depth:
            depth = chance.randrange(depth)
            yield f"RELEASE s{depth}", ()
        else:
            for _ in range(chance.randrange(80)):
                yield _insert(chance)
    yield "INSERT INTO log DEFAULT VALUES", ()


def _insert(chance: random.Random) -> Statement:
    number = chance.randrange(1000)
    return "INSERT INTO t (k, x) VALUES (?, ?)", (number, chance.randbytes(chance.randrange(1500)))


def commit(connection: sqlite3.Connection, seed: int, n: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in statements(seed, n):
        connection.execute(*statement)
    connection.execute("COMMIT")


def content(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM t").fetchall() + connection.execute("SELECT * FROM log").fetchall()


def write(path: str, seed: int, first: int, end: int, cache: int, checkpoint: int, synchronous: str, how: str) -> None:
    """What a writer's process does: it prints the position after each commit."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute(f"PRAGMA cache_size = {cache}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint}").fetchall()
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    for n in range(first, end):
        commit(connection, seed, n)
        print(int(Path(f"{path}-pos").read_text().split("/")[0], 16), flush=True)
    if how == "kill":
        os.kill(os.getpid(), 9)
    connection.close()


def test_savepoints(make_node: MakeNode, request: pytest.FixtureRequest) -> None:
    more = int(request.config.getoption("--torture-rounds") or 1)
    node = make_node(settings={"data": {"retention": "24h"}}).start()
    positions = {}
    for seed in (*TROUBLE, *(random.randrange(1 << 30) for _ in range(more))):
        name = f"{seed}.db"
        _play(node, name, seed)
        positions[name] = node.pos(name)
    assert node.stop() == 0
    for name, pos in positions.items():
        chain.check(node.files(name), pos)


def _play(node: Node, name: str, seed: int) -> None:
    path = str(node.path(name))
    chance = random.Random(seed)
    page_size = chance.choice((512, 512, 1024))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        setup(connection, page_size)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        setup(model, page_size)
        end, pos = 0, node.pos(name).txid
        for _ in range(WRITERS):
            first, end = end, end + chance.randrange(1, 6)
            how = chance.choice(("kill", "close"))
            options = [chance.choice(CACHES), chance.choice((0, 0, 1000, 20)), chance.choice(("normal", "full")), how]
            words = [path, *map(str, [seed, first, end, *options])]
            done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, timeout=60)
            for n in range(first, end):
                commit(model, seed, n)
            found = [int(word) for word in done.stdout.split()]
            assert found == list(range(pos + 1, pos + 1 + end - first)), f"seed {seed}: {words}: {done.stderr}"
            pos = found[-1]
            with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
                assert content(connection) == content(model), f"seed {seed}: {words}"
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert node.pos(name).txid == pos, f"seed {seed}: {words}"


if __name__ == "__main__":
    write(sys.argv[1], *map(int, sys.argv[2:7]), *sys.argv[7:])
