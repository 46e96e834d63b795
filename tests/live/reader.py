"""A reader in a process of its own, which goes on until its input ends and then tells what it saw.

Every transaction of the tests that use it gives all rows of ``t`` one new generation. The reader takes read
transactions of random length and prints a message and fails when one of them is not consistent in itself.
"""

from __future__ import annotations

import random
import select
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

CREATE = "CREATE TABLE t(k INTEGER PRIMARY KEY, generation INTEGER, pad BLOB)"
FILL = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<100) "
    "INSERT INTO t SELECT i, 0, zeroblob(700) FROM n"
)
LOOK = "SELECT min(generation), max(generation), count(*) FROM t"


def next_generation(number: int) -> str:
    return f"UPDATE t SET generation={number}, pad=randomblob(600 + {number * 53 % 400})"


class Reader:
    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "reading\n"

    def finish(self) -> tuple[int, int]:
        """Returns the number of read transactions, and the last generation seen."""
        output, _ = self._process.communicate("", timeout=30)
        assert self._process.returncode == 0, output
        count, last = output.split()
        return int(count), int(last)


def main(path: str) -> None:
    connection = sqlite3.connect(path, timeout=20, isolation_level=None)
    connection.execute("SELECT * FROM sqlite_master").fetchall()
    print("reading", flush=True)
    count = last = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        connection.execute("BEGIN")
        low, high, rows = connection.execute(LOOK).fetchone()
        if low != high or rows != 100 or low < last:
            sys.exit(f"read {low} to {high} in {rows} rows after {last}")
        time.sleep(random.choice([0, 0, 0.001, 0.01, 0.05]))
        if connection.execute(LOOK).fetchone() != (low, high, rows):
            sys.exit(f"the snapshot of {low} changed")
        if random.random() < 0.2:
            [(verdict,)] = connection.execute("PRAGMA integrity_check").fetchall()
            if verdict != "ok":
                sys.exit(verdict)
        connection.execute("COMMIT")
        count, last = count + 1, low
    print(count, last)


if __name__ == "__main__":
    main(*sys.argv[1:])
