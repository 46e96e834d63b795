"""A program that inserts one row after the other and says which inserts were acknowledged, and when.

    python writer.py DATABASE FIRST [PRAGMA...]

Prints ``ack NUMBER TIME`` and ``error TIME TEXT``, times by the system's monotonic clock. After an error it opens the
database anew and goes on with the next number. Ends when its standard input does.
"""

from __future__ import annotations

import os
import random
import select
import sqlite3
import sys
import time


def main(path: str, first: str, *pragmas: str) -> None:
    number = int(first)
    connection: sqlite3.Connection | None = None
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            if connection is None:
                connection = sqlite3.connect(path, isolation_level=None, timeout=1)
                for pragma in pragmas:
                    connection.execute(f"PRAGMA {pragma}").fetchall()
            number += 1
            connection.execute("INSERT INTO t VALUES (?)", (number,))
        except sqlite3.Error as error:
            if "locked" in str(error):
                continue  # by another writer
            report(f"error {time.monotonic()} {error}")
            if connection is not None:
                connection.close()
            connection = None
            time.sleep(0.02)
        else:
            report(f"ack {number} {time.monotonic()}")
            time.sleep(random.random() / 500)  # or SQLite lets no other writer have its turn


def report(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
