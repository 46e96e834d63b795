"""What applications do, each in a process of its own: ``python -m bench.work NAME JSON`` prints its result as JSON.

They use the sqlite3 module as any program would, and know nothing of nodes.
"""

from __future__ import annotations

import json
import random
import select
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.requests import bodies, idle, transfer

_CHUNK = 16  # operations between two looks at the clock
_LOST = 30.0  # seconds after which a transaction that a replica does not show counts as lost
_ROW = "x" * 100


def _open(path: str, synchronous: str = "") -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    if synchronous:
        connection.execute(f"PRAGMA synchronous={synchronous}")
    return connection


def create(path: str, journal: str, rows: int) -> None:
    """Make a database with one table of `rows` rows of 100 bytes."""
    connection = _open(path)
    found = connection.execute(f"PRAGMA journal_mode={journal}").fetchone()[0]
    if found != journal:
        raise SystemExit(f"journal mode is {found}, not {journal}")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
    connection.executemany("INSERT INTO t(v) VALUES(?)", ((_ROW,) for _ in range(rows)))
    connection.execute("COMMIT")
    connection.close()


def reads(path: str, seconds: float) -> float:
    """Look single rows up by primary key, each in a transaction of its own; how many a second."""
    connection = _open(path)
    rows = connection.execute("SELECT count(*), sum(length(v)) FROM t").fetchone()[0]
    ids = [random.randint(1, rows) for _ in range(1 << 14)]
    execute = connection.execute
    for number in ids[:1000]:
        execute("SELECT v FROM t WHERE id=?", (number,)).fetchone()
    done, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        start = done % len(ids)
        for number in ids[start : start + 256]:
            execute("SELECT v FROM t WHERE id=?", (number,)).fetchone()
        done += 256
    connection.close()
    return done / elapsed


def commits(path: str, synchronous: str, seconds: float) -> float:
    """Insert rows, each in a transaction of its own; how many a second."""
    connection = _open(path, synchronous)
    execute = connection.execute
    for _ in range(_CHUNK):
        execute("INSERT INTO t(v) VALUES(?)", (_ROW,))
    done, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        for _ in range(_CHUNK):
            execute("INSERT INTO t(v) VALUES(?)", (_ROW,))
        done += _CHUNK
    connection.close()
    return done / elapsed


def visible(path: str, replica: str, count: int, pause: float) -> list[tuple[float, float]]:
    """Insert a row, look for it on a replica, again and again.

    Returns seconds until a SELECT there saw it: from the return of COMMIT, and from the call.
    """
    writer, reader = _open(path, "NORMAL"), _open(replica)
    found = []
    for _ in range(count):
        time.sleep(random.uniform(0, pause))
        begin = time.perf_counter()
        number = writer.execute("INSERT INTO t(v) VALUES(?)", (_ROW,)).lastrowid
        committed = time.perf_counter()
        while reader.execute("SELECT max(id) FROM t").fetchone()[0] != number:
            if time.perf_counter() - committed > _LOST:
                raise SystemExit(f"row {number} does not reach the replica")
            time.sleep(50e-6)  # a loop that spins would take one of few CPUs from the nodes
        seen = time.perf_counter()
        found.append((seen - committed, seen - begin))
    writer.close()
    reader.close()
    return found


def latencies(path: str, synchronous: str, pause: float) -> list[tuple[float, float]]:
    """Insert rows at a pace until standard input ends; (time.monotonic(), seconds it took) of each."""
    connection = _open(path, synchronous)
    found = []
    while not select.select([sys.stdin], [], [], random.uniform(0, pause))[0]:
        begin = time.perf_counter()
        connection.execute("INSERT INTO t(v) VALUES(?)", (_ROW,))
        found.append((time.monotonic(), time.perf_counter() - begin))
    connection.close()
    return found


def many(directory: str, count: int) -> None:
    """Make databases of one row each."""
    for number in range(count):
        connection = _open(f"{directory}/db{number:05}", "OFF")
        connection.executescript("BEGIN; CREATE TABLE t(v); INSERT INTO t VALUES(1); COMMIT;")
        connection.close()


KINDS: dict[str, Callable[..., Any]] = {
    work.__name__: work for work in (create, reads, commits, visible, latencies, many, bodies, transfer, idle)
}

if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]](**json.loads(sys.argv[2]))))
