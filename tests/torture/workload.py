"""Random transactions that depend on nothing but a seed and their number, so that a plain SQLite can repeat them.

Transaction n of a workload notes n in the table `log`, and does something to other tables: rows, savepoints, tables and
indexes that come and go. What a database must hold after n of them is what an ordinary database in memory holds after
the same n: `History` knows.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Iterator
from typing import Any

Statement = tuple[str, tuple[Any, ...]]

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS log (n INTEGER PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, size INTEGER, data BLOB)",
    "CREATE INDEX IF NOT EXISTS rows_size ON rows (size, substr(data, 1, 8))",
)
EXTRA_TABLES = 3  # names of tables that come and go
LARGE = 200  # rows that the largest transactions insert


def setup(connection: sqlite3.Connection) -> None:
    """Make the tables, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute("COMMIT")


def run(connection: sqlite3.Connection, seed: str, n: int, schema: str = "main") -> None:
    """Execute what transaction n consists of; BEGIN and COMMIT are the caller's."""
    for text, values in statements(seed, n):
        connection.execute(text.replace("@", f"{schema}."), values)


def statements(seed: str, n: int) -> Iterator[Statement]:
    """The statements of transaction n. An @ stands for the schema and its dot."""
    chance = random.Random(f"{seed}/{n}")
    yield "INSERT INTO @log VALUES (?)", (n,)
    for _ in range(chance.randrange(1, 4)):
        yield from _step(chance)
    if chance.randrange(4) == 0:
        yield "SAVEPOINT s", ()
        yield from _step(chance)
        if chance.randrange(2):
            yield "ROLLBACK TO s", ()
        else:
            yield "RELEASE s", ()


def _step(chance: random.Random) -> Iterator[Statement]:
    kind = chance.choices(range(6), weights=(8, 4, 3, 1, 2, 1))[0]
    if kind == 0:
        yield _insert(chance)
    elif kind == 1:
        size = chance.randrange(2500)
        yield (
            "UPDATE @rows SET size = ?, data = ? WHERE id % 7 = ?",
            (size, chance.randbytes(size), chance.randrange(7)),
        )
    elif kind == 2:
        yield "DELETE FROM @rows WHERE id % 5 = ?", (chance.randrange(5),)
    elif kind == 3:
        for _ in range(chance.randrange(LARGE)):
            yield _insert(chance)
    elif kind == 4:
        table = f"extra{chance.randrange(EXTRA_TABLES)}"
        yield f"CREATE TABLE IF NOT EXISTS @{table} (x)", ()
        yield f"INSERT INTO @{table} VALUES (?)", (chance.randbytes(chance.randrange(9000)),)
    else:
        yield f"DROP TABLE IF EXISTS @extra{chance.randrange(EXTRA_TABLES)}", ()


def _insert(chance: random.Random) -> Statement:
    size = chance.randrange(3000) if chance.randrange(4) else chance.randrange(30)
    return "INSERT INTO @rows (size, data) VALUES (?, ?)", (size, chance.randbytes(size))


def undone(connection: sqlite3.Connection, chance: random.Random) -> None:
    """A transaction that is rolled back after it has changed a lot."""
    connection.execute("BEGIN IMMEDIATE")
    for text, values in _step(chance):
        connection.execute(text.replace("@", "main."), values)
    connection.execute("UPDATE rows SET data = zeroblob(2200)")
    connection.execute("DELETE FROM log")
    connection.execute("ROLLBACK")


def last(connection: sqlite3.Connection) -> int:
    """Number of the newest transaction that a database holds; 0 for none."""
    try:
        return int(connection.execute("SELECT coalesce(max(n), 0) FROM log").fetchone()[0])
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return 0
        raise


def digest(connection: sqlite3.Connection) -> str:
    """Fingerprint of all content, whatever the pages it lies in."""
    found = hashlib.sha256()
    tables = [
        name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    ]
    for table in tables:
        found.update(f"table {table}\n".encode())
        for row in connection.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid"):
            found.update(repr(row).encode())
    return found.hexdigest()


class History:
    """What a database holds after each of a workload's transactions, by an ordinary SQLite."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._digests: list[str] = []
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self.empty = digest(self._connection)
        setup(self._connection)
        self._digests.append(digest(self._connection))

    def digest(self, n: int) -> str:
        """Fingerprint after transaction n; with n = 0 there are only the tables."""
        while len(self._digests) <= n:
            self._connection.execute("BEGIN")
            run(self._connection, self._seed, len(self._digests))
            self._connection.execute("COMMIT")
            self._digests.append(digest(self._connection))
        return self._digests[n]

    def close(self) -> None:
        """Forget it all."""
        self._connection.close()

    def check(self, connection: sqlite3.Connection) -> int:
        """Number of the newest transaction that a database holds.

        Raises:
            AssertionError: it is damaged, or holds anything else than what its transactions leave.
        """
        found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        assert found == ["ok"], found[:3]
        n = last(connection)
        content = digest(connection)
        if n == 0 and content == self.empty:
            return 0
        assert content == self.digest(n), f"not what transactions 1 to {n} leave"
        return n
