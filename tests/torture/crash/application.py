"""An application with several databases that says when each commit begins and when it has been acknowledged.

Run as ``application.py MOUNT MARKS URL ROUNDS``. Its marks, one a line in the file MARKS:

    begin DATABASE N        transaction N is about to commit
    done DATABASE N         its COMMIT has returned
    gone DATABASE           the database is about to be deleted
    published DATABASE TXID CHECKSUM      as the node's event stream says
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sqlite3
import sys
import threading
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.torture import workload


@dataclass(frozen=True)
class Kind:
    """One database of the application.

    Attributes:
        lose: how many acknowledged transactions power loss may take, by docs/guarantees.md; None: no promise.
    """

    name: str
    mode: str
    synchronous: str
    page_size: int = 4096
    lose: int | None = 0
    pragmas: tuple[str, ...] = field(default=())


KINDS = [
    Kind("walfull", "WAL", "FULL", 1024),
    Kind("walnormal", "WAL", "NORMAL", 4096, None),
    Kind("delete", "DELETE", "FULL", 512, 1),
    Kind("extra", "DELETE", "EXTRA", 4096),
    Kind("truncate", "TRUNCATE", "FULL", 8192),
    Kind("persist", "PERSIST", "FULL", 1024),
    Kind("exclusive", "WAL", "FULL", 4096, 0, ("locking_mode = EXCLUSIVE",)),
    Kind("pair1", "DELETE", "EXTRA", 4096),
    Kind("pair2", "DELETE", "EXTRA", 1024),
    Kind("imported", "WAL", "FULL", 4096),
    Kind("dropped", "WAL", "FULL", 4096, None),
]
BY_NAME = {kind.name: kind for kind in KINDS}
PAIR = ("pair1", "pair2")


class Application:
    """All of its databases, in one thread."""

    def __init__(self, mount: Path, marks: Path, url: str) -> None:
        self._mount = mount
        self._marks = os.open(marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._address = url.removeprefix("http://")
        self._connections: dict[str, sqlite3.Connection] = {}
        self._chance = random.Random(0)
        self._number: dict[str, int] = {}

    def mark(self, text: str) -> None:
        os.write(self._marks, f"{text}\n".encode())

    def run(self, rounds: int) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        for number in range(rounds):
            for kind in KINDS:
                if kind.name == "pair2":
                    continue
                if kind.name == "imported" and number % 4 == 0:
                    self._import(kind)
                if kind.name == "dropped" and number % 5 == 4:
                    self._drop(kind)
                self._commit(kind)
                self._between(kind)

    def _listen(self) -> None:
        """Mark what the node announces."""
        connection = http.client.HTTPConnection(self._address)
        connection.request("GET", "/events")
        response = connection.getresponse()
        with suppress(OSError, ValueError):
            while line := response.readline():
                event = json.loads(line)
                if event["type"] == "tx":
                    self.mark(f"published {event['db']} {event['data']['txID']} {event['data']['postApplyChecksum']}")

    # ------------------------------------------------------------------------------------------------- connections

    def _connect(self, kind: Kind) -> sqlite3.Connection:
        known = self._connections.get(kind.name)
        if known is not None:
            return known
        connection = sqlite3.connect(self._mount / kind.name, isolation_level=None, timeout=30)
        self._prepare(connection, kind)
        workload.setup(connection)
        if kind.name == PAIR[0]:
            other = BY_NAME[PAIR[1]]
            second = sqlite3.connect(self._mount / other.name, isolation_level=None, timeout=30)
            self._prepare(second, other)
            workload.setup(second)
            second.close()
            connection.execute("ATTACH ? AS other", (str(self._mount / other.name),))
        self._connections[kind.name] = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection, kind: Kind) -> None:
        for pragma in kind.pragmas:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(f"PRAGMA page_size = {kind.page_size}")
        connection.execute(f"PRAGMA journal_mode = {kind.mode}").fetchall()
        connection.execute(f"PRAGMA synchronous = {kind.synchronous}")
        connection.execute("PRAGMA cache_size = 30")
        connection.execute(f"PRAGMA wal_autocheckpoint = {self._chance.choice([5, 40, 1000])}")

    def _close(self, kind: Kind) -> None:
        connection = self._connections.pop(kind.name, None)
        if connection is not None:
            connection.close()

    # ---------------------------------------------------------------------------------------------------- commits

    def _commit(self, kind: Kind) -> None:
        connection = self._connect(kind)
        n = self._number[kind.name] = self._number.get(kind.name, 0) + 1
        names = PAIR if kind.name == PAIR[0] else (kind.name,)
        connection.execute("BEGIN IMMEDIATE")
        for schema, name in zip(("main", "other"), names, strict=False):
            workload.run(connection, name, n, schema)
        for name in names:
            self.mark(f"begin {name} {n}")
        connection.execute("COMMIT")
        for name in names:
            self.mark(f"done {name} {n}")

    def _between(self, kind: Kind) -> None:
        connection = self._connections[kind.name]
        match self._chance.randrange(12):
            case 0 if kind.name not in PAIR:
                connection.execute("VACUUM")
            case 1 | 2 if kind.mode == "WAL":
                how = self._chance.choice(["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
                connection.execute(f"PRAGMA wal_checkpoint({how})").fetchall()
            case 3 if kind.name not in PAIR:
                workload.undone(connection, self._chance)
            case 4:
                self._close(kind)

    def _import(self, kind: Kind) -> None:
        """Replace the database by a file that holds its next transaction, too."""
        self._close(kind)
        n = self._number[kind.name] = self._number.get(kind.name, 0) + 1
        file = sqlite3.connect(":memory:", isolation_level=None)
        workload.setup(file)
        for number in range(1, n + 1):
            file.execute("BEGIN")
            workload.run(file, kind.name, number)
            file.execute("COMMIT")
        self.mark(f"begin {kind.name} {n}")
        request = urllib.request.Request(
            f"http://{self._address}/import?name={kind.name}", data=file.serialize(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=30):
            self.mark(f"done {kind.name} {n}")

    def _drop(self, kind: Kind) -> None:
        self._close(kind)
        self.mark(f"gone {kind.name}")
        (self._mount / kind.name).unlink()
        self._number[kind.name] = 0


if __name__ == "__main__":
    Application(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]).run(int(sys.argv[4]))
