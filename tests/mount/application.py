"""What applications do with their databases, in this process or in one that dies."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from litefs.ltx import Pos
from tests.support import chain
from tests.support.nodes import Node


def connect(path: str | Path, *, journal: str = "", **pragmas: Any) -> sqlite3.Connection:
    """A connection in autocommit mode."""
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
    if journal:
        found = connection.execute(f"PRAGMA journal_mode = {journal}").fetchone()[0]
        assert found == journal
    return connection


def fill(connection: sqlite3.Connection, rows: int, *, size: int = 1000, table: str = "t") -> None:
    """One transaction that adds rows of random bytes."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, data BLOB)")
    connection.executemany(f"INSERT INTO {table} (data) VALUES (randomblob(?))", ((size,) for _ in range(rows)))
    connection.execute("COMMIT")


def rows(connection: sqlite3.Connection, table: str = "t") -> list[Any]:
    """All rows, in order."""
    return connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def make_database(path: Path, *, count: int = 50, **pragmas: Any) -> bytes:
    """Make a database somewhere else; its bytes."""
    connection = connect(path, **pragmas)
    fill(connection, count)
    connection.close()
    return path.read_bytes()


def die_after(path: str, *statements: str) -> None:
    """Have a process run statements and end without any clean-up."""
    script = (
        "import os, signal, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)\n"
        "for statement in sys.argv[2:]: connection.execute(statement).fetchall()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path, *statements], capture_output=True, timeout=30)
    assert done.returncode == -signal.SIGKILL, done.stderr


def check(node: Node, name: str = "db") -> Pos:
    """LTX files, database, WAL and position agree; the position."""
    pos = node.pos(name)
    chain.check(node.files(name), pos)
    return pos
