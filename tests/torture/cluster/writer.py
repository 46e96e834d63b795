"""An application that writes all the time, on whichever node it lives, and records what it was told.

Each transaction inserts one row: on which node, and which try. For each try one line goes to the record: ``ack N TIME
TXID`` once COMMIT has returned, ``no N TIME ERROR`` when it failed. A number is never used twice, so a row that is
there twice was applied twice, and one whose try failed may or may not be there.

Run as ``writer.py DATABASE RECORD NODE PAUSE``, PAUSE in seconds between two transactions. On a replica each try fails,
and the next one opens the database anew, as applications do that reconnect.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time

RETRY = 0.02  # seconds after a refusal
BUSY = 2.0  # seconds to wait for locks

SCHEMA = "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT, n INTEGER, at REAL)"


def connect(path: str) -> sqlite3.Connection:
    if not os.path.exists(path):
        raise sqlite3.OperationalError("no database yet")  # opening it would make one
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def commit(connection: sqlite3.Connection, node: str, n: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO entries (node, n, at) VALUES (?, ?, ?)", (node, n, time.time()))
    connection.execute("COMMIT")


def txid(path: str) -> str:
    """Where the database is after the commit; "" if the node is gone already."""
    try:
        with open(f"{path}-pos") as file:
            return file.read().split("/")[0]
    except OSError:
        return ""


def run(path: str, record: str, node: str, pause: float) -> None:
    """Write until killed."""
    out = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    connection: sqlite3.Connection | None = None
    n = 0
    while True:
        n += 1
        try:
            connection = connection or connect(path)
            commit(connection, node, n)
            os.write(out, f"ack {n} {time.time():.6f} {txid(path)}\n".encode())
            time.sleep(pause)
        except sqlite3.Error as error:
            os.write(out, f"no {n} {time.time():.6f} {error}\n".encode())
            if connection is not None:
                connection.close()
                connection = None
            time.sleep(RETRY)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
