"""An application that can be killed at any moment, and what must be true of its database afterwards.

Transaction n inserts the row n and counts it in another table; its number is appended to a file once COMMIT has
returned. So the rows must always be 1..m, every number in the file must be among them, and m is at most one more than
the last number in the file.

Run as ``load.py write DATABASE MODE ACKNOWLEDGED`` or ``load.py check DATABASE``; the latter prints what it found
as JSON and changes nothing. With a number of transactions as one more argument, ``write`` ends after them, and all of
the WAL is in the database file then. A process of its own, so that one who waits for a dead mount holds up nobody else.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import sys
import time

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (n INTEGER PRIMARY KEY, data BLOB);
CREATE TABLE IF NOT EXISTS total (id INTEGER PRIMARY KEY CHECK (id = 1), entries INTEGER);
CREATE TABLE IF NOT EXISTS bulk (id INTEGER PRIMARY KEY, data BLOB);
CREATE INDEX IF NOT EXISTS bulk_data ON bulk (substr(data, 1, 20));
INSERT OR IGNORE INTO total VALUES (1, 0);
"""


def connect(path: str, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    if mode == "exclusive":
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        mode = "wal"
    connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = 20")  # pages: large transactions spill into the files before they commit
    connection.execute(f"PRAGMA wal_autocheckpoint = {random.choice([5, 40, 1000])}")
    return connection


def write(path: str, mode: str, acknowledged: str, limit: int = 1 << 62) -> None:
    """Commit transactions until killed, or until something fails."""
    record = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    connection = connect(path, mode)
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA.strip().split(";\n"):
        connection.execute(statement)
    connection.execute("COMMIT")
    (last,) = connection.execute("SELECT coalesce(max(n), 0) FROM entries").fetchone()
    for n in range(last + 1, last + 1 + limit):
        commit(connection, n)
        os.write(record, b"%d\n" % n)
        between(connection, mode)
    if mode == "wal":
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            time.sleep(0.01)  # the node itself does one


def commit(connection: sqlite3.Connection, n: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO entries VALUES (?, ?)", (n, random.randbytes(random.randrange(3000))))
    connection.execute("UPDATE total SET entries = entries + 1")
    match random.randrange(12):
        case 0:
            for _ in range(random.randrange(100)):
                connection.execute("INSERT INTO bulk (data) VALUES (?)", (random.randbytes(2000),))
        case 1:
            connection.execute("DELETE FROM bulk WHERE id % 3 = ?", (random.randrange(3),))
        case 2:
            connection.execute("UPDATE bulk SET data = randomblob(2000) WHERE id % 5 = ?", (random.randrange(5),))
        case 3:
            connection.execute("SAVEPOINT s")
            # Few pages: where more are spilled, SQLite leaves a WAL that it cannot recover itself.
            connection.execute("UPDATE bulk SET data = randomblob(2100) WHERE id = (SELECT max(id) FROM bulk)")
            connection.execute("ROLLBACK TO s")
    connection.execute("COMMIT")


def between(connection: sqlite3.Connection, mode: str) -> None:
    """What else applications do now and then."""
    match random.randrange(60):
        case 0:
            connection.execute("VACUUM")
        case 1 | 2:
            connection.execute(f"PRAGMA wal_checkpoint({random.choice(['PASSIVE', 'RESTART', 'TRUNCATE'])})").fetchall()
        case 3:
            connection.execute("BEGIN")
            connection.execute("DELETE FROM entries")
            connection.execute("UPDATE bulk SET data = randomblob(2200)")
            connection.execute("ROLLBACK")


def check(path: str) -> dict[str, object]:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("BEGIN")
    rows, last = connection.execute("SELECT count(*), coalesce(max(n), 0) FROM entries").fetchone()
    (total,) = connection.execute("SELECT entries FROM total").fetchone()
    found = connection.execute("PRAGMA integrity_check").fetchall()
    return {"rows": rows, "last": last, "total": total, "integrity": [row[0] for row in found]}


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2], sys.argv[3], sys.argv[4], *map(int, sys.argv[5:]))
    else:
        print(json.dumps(check(sys.argv[2])))
