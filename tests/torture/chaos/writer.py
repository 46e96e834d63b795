"""One of several applications that write to the same databases, and what they hold.

``writer.py write MOUNT ACKNOWLEDGED SEED DATABASE...`` commits transactions until killed. Whoever has the write lock
commits the next transaction of the workload that the database's name is the seed of. A line ``begin NAME N`` is written
before each COMMIT, ``done NAME N`` after it has returned. A commit that fails is tried again, from what the database
holds by then.

``writer.py check MOUNT DATABASE...`` prints what they hold as JSON, ``writer.py settle MOUNT DATABASE...`` commits one
more transaction in each.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.torture import workload

MODES = ("wal", "delete", "truncate", "persist")
PAGE_SIZES = (512, 1024, 4096, 8192, 65536)
PAUSE = 0.02  # seconds after an error


def connect(mount: str, name: str) -> sqlite3.Connection:
    """Names begin with the journal mode, and the page size: ``wal-4096-0.db``."""
    mode, page_size = name.split("-")[:2]
    connection = sqlite3.connect(os.path.join(mount, name), isolation_level=None, timeout=30)
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA cache_size = 30")
    connection.execute(f"PRAGMA wal_autocheckpoint = {random.choice([5, 40, 1000])}")
    workload.setup(connection)
    return connection


def commit(connection: sqlite3.Connection, name: str, record: int) -> None:
    """The next transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        n = workload.last(connection) + 1
        workload.run(connection, name, n)
        os.write(record, f"begin {name} {n}\n".encode())
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    os.write(record, f"done {name} {n}\n".encode())


def between(connection: sqlite3.Connection, chance: random.Random) -> None:
    """What else applications do now and then."""
    match chance.randrange(40):
        case 0:
            connection.execute("VACUUM")
        case 1 | 2:
            how = chance.choice(["PASSIVE", "RESTART", "TRUNCATE"])
            connection.execute(f"PRAGMA wal_checkpoint({how})").fetchall()
        case 3:
            workload.undone(connection, chance)


def write(mount: str, acknowledged: str, seed: str, *names: str) -> None:
    chance = random.Random(seed)
    record = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    connections: dict[str, sqlite3.Connection] = {}
    while True:
        name = chance.choice(names)
        try:
            if name not in connections:
                connections[name] = connect(mount, name)
            commit(connections[name], name, record)
            between(connections[name], chance)
            if not chance.randrange(20):
                connections.pop(name).close()
        except (sqlite3.Error, OSError) as error:
            print(f"{name}: {error}", flush=True)
            broken = connections.pop(name, None)
            if broken is not None:
                broken.close()
            time.sleep(PAUSE)


def check(mount: str, *names: str) -> None:
    found = {}
    for name in names:
        if os.path.exists(os.path.join(mount, name)):
            connection = sqlite3.connect(os.path.join(mount, name), isolation_level=None, timeout=30)
            connection.execute("BEGIN")
            sound = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            found[name] = [workload.last(connection), workload.digest(connection), sound]
            connection.close()
    print(json.dumps(found))


def settle(mount: str, *names: str) -> None:
    for name in names:
        connection = connect(mount, name)
        commit(connection, name, os.open(os.devnull, os.O_WRONLY))
        connection.close()


if __name__ == "__main__":
    {"write": write, "check": check, "settle": settle}[sys.argv[1]](*sys.argv[2:])
